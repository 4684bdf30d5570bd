package sqlitekv

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/store/kv"
)

// The figures that docs/adr/0003-embedded-store.md quotes:
//
//	go test -run '^$' -bench . -benchtime 3s ./internal/store/kv/sqlitekv

func benchStore(b *testing.B) *Store {
	b.Helper()
	s, err := Open(filepath.Join(b.TempDir(), "gust.db"), Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

func benchItem(i int) kv.Item {
	return kv.Item{
		Key: kv.Key{PK: fmt.Sprintf("RUN#example#%d", i%1000), SK: fmt.Sprintf("TI#task_%d#-1", i)},
		Attrs: map[string]kv.Value{"state": kv.String("queued"), "try_number": kv.Int(1), "dispatch_seq": kv.Int(int64(i)),
			"doc": kv.Bytes(make([]byte, 300))},
	}
}

func step(i int) kv.Op {
	return kv.Update(benchItem(i).Key, kv.Exists(), kv.Assign("state", kv.String("running")), kv.Add("dispatch_seq", 1))
}

func reportLatency(b *testing.B, d []time.Duration) {
	slices.Sort(d)
	us := func(q float64) float64 { return float64(d[min(len(d)-1, int(q*float64(len(d))))]) / 1e3 }
	b.ReportMetric(us(0.5), "p50-µs")
	b.ReportMetric(us(0.99), "p99-µs")
}

func BenchmarkLoneWrite(b *testing.B) {
	s := benchStore(b)
	ctx := context.Background()
	for i := range 1000 {
		if err := s.Write(ctx, kv.Put(benchItem(i), kv.NotExists())); err != nil {
			b.Fatal(err)
		}
	}
	var took []time.Duration
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		start := time.Now()
		if err := s.Write(ctx, step(i%1000)); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	reportLatency(b, took)
}

func BenchmarkLoneTransact3(b *testing.B) {
	s := benchStore(b)
	ctx := context.Background()
	for i := range 1000 {
		if err := s.Write(ctx, kv.Put(benchItem(i), kv.NotExists())); err != nil {
			b.Fatal(err)
		}
	}
	var took []time.Duration
	b.ResetTimer()
	for i := range b.N {
		start := time.Now()
		if err := s.Transact(ctx, fmt.Sprint("token", i), []kv.Op{step(i % 300), step(300 + i%300), step(600 + i%300)}); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	reportLatency(b, took)
}

func BenchmarkWrites(b *testing.B) {
	for _, writers := range []int{1, 4, 16, 64, 256} {
		for _, kind := range []string{"update", "create"} {
			b.Run(fmt.Sprintf("%s/writers=%d", kind, writers), func(b *testing.B) {
				s := benchStore(b)
				ctx := context.Background()
				for i := 0; i < 10_000; i += 100 {
					ops := make([]kv.Op, 100)
					for j := range ops {
						ops[j] = kv.Put(benchItem(i+j), kv.NotExists())
					}
					if err := s.Transact(ctx, "", ops); err != nil {
						b.Fatal(err)
					}
				}
				var next atomic.Int64
				var wg sync.WaitGroup
				all := make([][]time.Duration, writers)
				b.ResetTimer()
				for g := range writers {
					wg.Go(func() {
						for {
							i := int(next.Add(1))
							if i > b.N {
								return
							}
							op := step(i % 10_000)
							if kind == "create" {
								op = kv.Put(benchItem(10_000+i), kv.NotExists())
							}
							start := time.Now()
							if err := s.Write(ctx, op); err != nil {
								b.Error(err)
								return
							}
							all[g] = append(all[g], time.Since(start))
						}
					})
				}
				wg.Wait()
				b.StopTimer()
				reportLatency(b, slices.Concat(all...))
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
			})
		}
	}
}

func BenchmarkGet(b *testing.B) {
	s := benchStore(b)
	ctx := context.Background()
	for i := range 1000 {
		if err := s.Write(ctx, kv.Put(benchItem(i), kv.NotExists())); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		if _, err := s.Get(ctx, benchItem(i%1000).Key, true); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkQuery100(b *testing.B) {
	s := benchStore(b)
	ctx := context.Background()
	for i := range 100 {
		it := benchItem(i)
		it.PK = "RUN#one"
		if err := s.Write(ctx, kv.Put(it, kv.NotExists())); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		p, err := s.Query(ctx, kv.Query{PK: "RUN#one", SK: kv.Prefix("TI#")})
		if err != nil || len(p.Items) != 100 {
			b.Fatal(len(p.Items), err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	s := benchStore(b)
	ctx := context.Background()
	for i := range 10_000 {
		if i%100 == 0 {
			ops := make([]kv.Op, 100)
			for j := range ops {
				ops[j] = kv.Put(benchItem(i+j), kv.NotExists())
			}
			if err := s.Transact(ctx, "", ops); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	fi, err := os.Stat(s.path)
	if err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	b.ReportMetric(float64(fi.Size())/1e6, "MB")
	for range b.N {
		t, err := Open(s.path, Options{})
		if err != nil {
			b.Fatal(err)
		}
		if err := t.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
