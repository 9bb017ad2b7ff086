package eval

import (
	"os"

	"github.com/parquet-go/parquet-go"
)

// parquetRow is an image in a .parquet file. Features are neither compressed nor
// put into a dictionary: mantissas do not repeat.
type parquetRow struct {
	ID       string    `parquet:"id,zstd"`
	Label    *string   `parquet:"label,optional,dict"`
	Features []float32 `parquet:"features,list"`
}

// parquetGroup is how many bytes of features make a row group: readers take one at
// a time, and so much stays in memory.
const parquetGroup = 64 << 20

func (f *FeatureWriter) parquet(file *os.File) {
	w := parquet.NewGenericWriter[parquetRow](file,
		parquet.MaxRowsPerRowGroup(int64(max(1, parquetGroup/(4*f.dim)))), parquet.CreatedBy("swav", "1", ""))
	names := map[int]*string{}
	var out []parquetRow
	f.put = func(features []float32, rows []Row) error {
		out = out[:0]
		for i, r := range rows {
			label, ok := names[r.Label]
			if name := className(f.classes, r.Label); !ok && name != "" {
				label = &name
				names[r.Label] = label
			}
			out = append(out, parquetRow{ID: r.ID, Label: label, Features: features[i*f.dim : (i+1)*f.dim]})
		}
		_, err := w.Write(out)
		return err
	}
	f.finish = w.Close
}
