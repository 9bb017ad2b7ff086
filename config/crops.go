package config

import (
	"fmt"
	"strconv"
	"strings"
)

// ParseCrops reads the short form of crop groups, "2x224@0.14-1,6x96@0.05-0.14":
// count, size and the range of scales.
func ParseCrops(s string) ([]Crop, error) {
	var out []Crop
	for _, part := range strings.Split(s, ",") {
		c, err := parseCrop(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

func parseCrop(s string) (Crop, error) {
	var c Crop
	bad := fmt.Errorf("%q is not a group of crops: write COUNTxSIZE@MIN-MAX, such as 2x224@0.14-1, with commas between groups", s)
	views, scales, ok := strings.Cut(s, "@")
	if !ok {
		return c, bad
	}
	count, size, ok := strings.Cut(views, "x")
	if !ok {
		return c, bad
	}
	lo, hi, ok := strings.Cut(scales, "-")
	if !ok {
		return c, bad
	}
	var err [4]error
	c.Count, err[0] = strconv.Atoi(count)
	c.Size, err[1] = strconv.Atoi(size)
	c.MinScale, err[2] = strconv.ParseFloat(lo, 64)
	c.MaxScale, err[3] = strconv.ParseFloat(hi, 64)
	for _, e := range err {
		if e != nil {
			return c, bad
		}
	}
	return c, nil
}

// FormatCrops writes the short form that ParseCrops reads.
func FormatCrops(crops []Crop) string {
	parts := make([]string, len(crops))
	for i, c := range crops {
		parts[i] = fmt.Sprintf("%dx%d@%s-%s", c.Count, c.Size,
			strconv.FormatFloat(c.MinScale, 'f', -1, 64), strconv.FormatFloat(c.MaxScale, 'f', -1, 64))
	}
	return strings.Join(parts, ",")
}
