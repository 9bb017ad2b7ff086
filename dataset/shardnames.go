package dataset

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"unicode"

	"swav/dataset/tarshard"
	"swav/internal/fetch"
)

// shardPattern tells paths that cannot be looked up: URLs, and names of several
// files.
func shardPattern(path string) bool {
	if strings.HasPrefix(path, "shards:") {
		return false
	}
	if fetch.Is(path) || strings.Contains(path, "::") {
		return true
	}
	shard, _ := shardName(path)
	if !shard || !strings.ContainsAny(path, "{*?[") {
		return false
	}
	_, err := os.Stat(path) // brackets may be part of a name
	return err != nil
}

// shardName tells names of shards, and whether their images cannot be read in
// place.
func shardName(name string) (shard, packed bool) {
	if shard, packed = tarshard.Is(name); shard {
		return shard, packed
	}
	parquet := strings.HasSuffix(strings.ToLower(shardBase(name)), parquetSuffix)
	return parquet, parquet
}

func detectShards(path string, isDir bool) bool {
	if !isDir {
		shard, _ := shardName(path)
		return shard
	}
	_, found, err := shardsIn(path, Train)
	return err == nil && len(found) > 0
}

// shardsIn are the shards of a split in a folder that has no images beside
// them. Splits are sub-folders, or the beginnings of names as Hugging Face's are,
// which also may lie in a sub-folder data. Parts tells whether there are splits.
func shardsIn(dir, split string) (parts bool, found []string, err error) {
	sub, err := splitFolder(dir, split)
	if err != nil {
		return false, nil, err
	}
	if sub != "" {
		_, found = shardsOf(filepath.Join(dir, sub), split)
		return true, found, nil
	}
	for _, d := range []string{dir, filepath.Join(dir, "data")} {
		if parts, found = shardsOf(d, split); len(found) > 0 {
			break
		}
	}
	return parts, found, nil
}

// shardsOf are the shards right in a folder.
func shardsOf(dir, split string) (parts bool, found []string) {
	bySplit := map[string][]string{}
	for _, name := range shardFiles(dir) {
		path := filepath.Join(dir, name)
		found = append(found, path)
		stem := strings.ToLower(name[:len(name)-len(strings.TrimLeftFunc(name, unicode.IsLetter))])
		for s, stems := range splitFolders {
			if slices.Contains(stems, stem) {
				bySplit[s] = append(bySplit[s], path)
			}
		}
	}
	if len(bySplit[Train]) > 0 && len(bySplit[Test]) > 0 {
		return true, bySplit[split]
	}
	return false, found
}

// shardFiles names the shards in a folder, none where an image lies beside them:
// the first one ends the search, which would be long in a folder of millions.
func shardFiles(dir string) (names []string) {
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	for {
		entries, err := d.ReadDir(256)
		for _, e := range entries {
			if imageName(e.Name()) {
				return nil
			}
			if shard, _ := shardName(e.Name()); shard {
				names = append(names, e.Name())
			}
		}
		if err != nil {
			sort.Strings(names)
			return names
		}
	}
}

// shardNames lists the shards that a folder, file, URL or pattern stands for.
func shardNames(path, split string) ([]string, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		parts, names, err := shardsIn(path, split)
		if err != nil {
			return nil, err
		}
		if !parts && split == Test {
			return nil, fmt.Errorf("%w: shards have test images only in a sub-folder test or val beside train, or in files named like test-*.parquet beside train-*", ErrNoSplit)
		}
		if len(names) == 0 {
			return nil, errors.New("no shards in it: looked for *.tar, *.tar.gz, *.tar.zst, *.parquet")
		}
		return names, nil
	}
	if split == Test {
		return nil, fmt.Errorf("%w: name the shards with test images as another source", ErrNoSplit)
	}
	if fetch.Is(path) {
		return tarshard.Expand(path) // a question mark is no wildcard there
	}
	return tarshard.Glob(path)
}
