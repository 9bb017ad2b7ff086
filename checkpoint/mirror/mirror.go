// Package mirror keeps a copy of a run's newest checkpoint in an object store that
// speaks S3, so that the run outlives its machine.
//
//	s3://BUCKET/PREFIX/checkpoints/step-0000123/…   the checkpoint's files
//	s3://BUCKET/PREFIX/newest                       its name, written last
//	s3://BUCKET/PREFIX/recipe.toml, metrics.jsonl   and the run's other files
//
// A copy that was interrupted is not named by newest and is removed by the next one.
// What a checkpoint holds, and whether it is whole, is package checkpoint's.
package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sync/errgroup"

	"swav/checkpoint"
	"swav/internal/fetch"
)

const (
	newest      = "newest"
	checkpoints = "checkpoints/"
	// Files are sent and fetched several at a time, and large ones in parts of partSize.
	transfers = 4
	partSize  = 64 << 20
	maxFiles  = 10000 // of a checkpoint
)

// Mirror is a place in an object store.
type Mirror struct {
	client         *minio.Client
	bucket, prefix string
	name           string // as the user wrote it
}

// Open takes s3://BUCKET/PREFIX. Endpoint, region and credentials are those by which
// data is read from S3 (package fetch).
func Open(place string) (*Mirror, error) {
	rest, ok := strings.CutPrefix(place, "s3://")
	bucket, prefix, _ := strings.Cut(rest, "/")
	if prefix = strings.Trim(prefix, "/"); !ok || bucket == "" || prefix == "" {
		return nil, fmt.Errorf("mirror %s: want s3://BUCKET/PREFIX, a place for one run", place)
	}
	endpoint, secure := "s3.amazonaws.com", true
	if e := fetch.S3Endpoint(); e != "" {
		u, err := url.Parse(e)
		if err != nil || u.Host == "" {
			return nil, fmt.Errorf("mirror %s: AWS_ENDPOINT_URL is %q: want an address such as https://store.example:9000", place, e)
		}
		endpoint, secure = u.Host, u.Scheme == "https"
	}
	client, err := minio.New(endpoint, &minio.Options{Secure: secure, Region: fetch.S3Region(), Creds: fetch.S3Credentials()})
	if err != nil {
		return nil, fmt.Errorf("mirror %s: %w", place, err)
	}
	return &Mirror{client: client, bucket: bucket, prefix: prefix + "/", name: strings.TrimSuffix(place, "/")}, nil
}

// String is the place.
func (m *Mirror) String() string { return m.name }

func (m *Mirror) fail(what string, err error) error {
	if minio.ToErrorResponse(err).StatusCode == http.StatusForbidden {
		return fmt.Errorf("mirror %s: %s: %w%s", m.name, what, err, fetch.S3Advice)
	}
	return fmt.Errorf("mirror %s: %s: %w", m.name, what, err)
}

// Push copies a run's newest checkpoint, where the store does not have it yet, and the
// run's other files, and then removes what is older.
func (m *Mirror) Push(ctx context.Context, run string) error {
	local, err := checkpoint.Latest(run)
	if err != nil {
		return fmt.Errorf("mirror %s: %w", m.name, err)
	}
	name := filepath.Base(local)
	have, err := m.newest(ctx)
	if err != nil {
		return err
	}
	if have != name {
		if err := m.send(ctx, local, checkpoints+name+"/"); err != nil {
			return err
		}
	}
	if err := m.send(ctx, run, ""); err != nil {
		return err
	}
	if have == name {
		return nil
	}
	if _, err := m.client.PutObject(ctx, m.bucket, m.prefix+newest, strings.NewReader(name), int64(len(name)), minio.PutObjectOptions{}); err != nil {
		return m.fail("name "+name, err)
	}
	return m.prune(ctx, name)
}

// send copies the files of a folder, not those in folders below.
func (m *Mirror) send(ctx context.Context, dir, under string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("mirror %s: %w", m.name, err)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(transfers)
	for _, e := range entries {
		if !e.Type().IsRegular() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		g.Go(func() error {
			_, err := m.client.FPutObject(ctx, m.bucket, m.prefix+under+e.Name(), filepath.Join(dir, e.Name()), minio.PutObjectOptions{PartSize: partSize, NumThreads: transfers})
			if err != nil && !(under == "" && errors.Is(err, fs.ErrNotExist)) { // a run's files come and go
				return m.fail("send "+e.Name(), err)
			}
			return nil
		})
	}
	return g.Wait()
}

// newest is the name of the store's checkpoint, "" if there is none.
func (m *Mirror) newest(ctx context.Context) (string, error) {
	o, err := m.client.GetObject(ctx, m.bucket, m.prefix+newest, minio.GetObjectOptions{})
	var b []byte
	if err == nil {
		b, err = io.ReadAll(io.LimitReader(o, 256))
		_ = o.Close()
	}
	if minio.ToErrorResponse(err).Code == minio.NoSuchKey {
		return "", nil
	}
	if err != nil {
		return "", m.fail("look for a checkpoint", err)
	}
	name := string(bytes.TrimSpace(b))
	if name != path.Base(name) || !strings.HasPrefix(name, "step-") {
		return "", fmt.Errorf("mirror %s: %s says %.100q, which is no checkpoint's name", m.name, newest, name)
	}
	return name, nil
}

// prune removes all checkpoints but one.
func (m *Mirror) prune(ctx context.Context, name string) error {
	for o := range m.client.ListObjectsIter(ctx, m.bucket, minio.ListObjectsOptions{Prefix: m.prefix + checkpoints, Recursive: true}) {
		if o.Err != nil {
			return m.fail("look for older checkpoints", o.Err)
		}
		if strings.HasPrefix(o.Key, m.prefix+checkpoints+name+"/") {
			continue
		}
		if err := m.client.RemoveObject(ctx, m.bucket, o.Key, minio.RemoveObjectOptions{}); err != nil {
			return m.fail("remove "+o.Key, err)
		}
	}
	return nil
}

// Pull fetches the store's checkpoint and the run's other files into run, unless run has
// that checkpoint or a newer one. It tells whether it fetched anything.
func (m *Mirror) Pull(ctx context.Context, run string) (bool, error) {
	name, err := m.newest(ctx)
	if err != nil || name == "" {
		return false, err
	}
	if local, err := checkpoint.Latest(run); err == nil && filepath.Base(local) >= name {
		return false, nil
	}
	if err := checkpoint.Prepare(run); err != nil {
		return false, err
	}
	tmp, err := os.MkdirTemp(run, ".mirror-*")
	if err != nil {
		return false, fmt.Errorf("mirror %s: %w", m.name, err)
	}
	defer os.RemoveAll(tmp)
	under := m.prefix + checkpoints + name + "/"
	if err := m.fetch(ctx, under, tmp); err != nil {
		return false, err
	}
	if err := m.fetch(ctx, m.prefix, run); err != nil {
		return false, err
	}
	if err := checkpoint.Adopt(run, tmp); err != nil {
		return false, fmt.Errorf("mirror %s: %w", m.name, err)
	}
	return true, nil
}

// fetch copies the objects right under a prefix into a folder.
func (m *Mirror) fetch(ctx context.Context, prefix, dir string) error {
	var keys []string
	for o := range m.client.ListObjectsIter(ctx, m.bucket, minio.ListObjectsOptions{Prefix: prefix}) {
		if o.Err != nil {
			return m.fail("list", o.Err)
		}
		if name := strings.TrimPrefix(o.Key, prefix); name != "" && name != newest && name == filepath.Base(name) && !strings.HasPrefix(name, ".") && !strings.HasSuffix(o.Key, "/") {
			keys = append(keys, o.Key)
		}
		if len(keys) > maxFiles {
			return fmt.Errorf("mirror %s: more than %d files", m.name, maxFiles)
		}
	}
	slices.Sort(keys)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(transfers)
	for _, key := range keys {
		g.Go(func() error {
			if err := m.client.FGetObject(ctx, m.bucket, key, filepath.Join(dir, path.Base(key)), minio.GetObjectOptions{}); err != nil {
				return m.fail("fetch "+path.Base(key), err)
			}
			return nil
		})
	}
	return g.Wait()
}
