package eval

import (
	"runtime"
	"sync"
	"sync/atomic"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"
)

// Gemm computes c [m, n] = a b + beta c on row-major matrices whose rows start lda,
// ldb and ldc apart; ta and tb say that a [m, k] or b [k, n] is stored transposed. It
// is called by several goroutines at once. It lets the caller lend a fast backend
// (cpu.Gemm); nil is gonum's.
type Gemm func(ta, tb bool, m, n, k int, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int) error

// orDefault is g, or gonum's product.
func (g Gemm) orDefault() Gemm {
	if g != nil {
		return g
	}
	return func(ta, tb bool, m, n, k int, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int) error {
		blas32.Implementation().Sgemm(transpose(ta), transpose(tb), m, n, k, 1, a, lda, b, ldb, beta, c, ldc)
		return nil
	}
}

func transpose(t bool) blas.Transpose {
	if t {
		return blas.Trans
	}
	return blas.NoTrans
}

// parallel calls f for 0 to n-1 from as many goroutines as there are processors and
// returns the first error. Worker is the goroutine's number, for its buffers.
func parallel(n int, f func(worker, i int) error) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	var once sync.Once
	var first error
	for w := range min(n, runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			for {
				i := int(next.Add(1) - 1)
				if i >= n {
					return
				}
				if err := f(w, i); err != nil {
					once.Do(func() { first = err })
					next.Store(int64(n))
					return
				}
			}
		})
	}
	wg.Wait()
	return first
}

// blocks is how many blocks of a size n things fill.
func blocks(n, size int) int { return (n + size - 1) / size }

// progress counts what is done. A nil *progress is of use.
type progress struct {
	mu          sync.Mutex
	tell        func(done, total int)
	done, total int
}

// newProgress tells of total things, to nobody if tell is nil.
func newProgress(tell func(done, total int), total int) *progress {
	if tell == nil {
		return nil
	}
	return &progress{tell: tell, total: total}
}

func (p *progress) add(n int) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	p.tell(p.done, p.total)
}
