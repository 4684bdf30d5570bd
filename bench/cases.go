package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/engine/enginetest"
	"github.com/gustflow/gust/internal/store"
)

// noop makes an EmptyOperator go through queue, worker and report like any other
// task: a callback flag keeps the scheduler from taking its shortcut.
var noop = map[string]any{
	"task_type": "EmptyOperator", "_task_module": "airflow.providers.standard.operators.empty", "_is_empty": true, "has_on_execute_callback": true,
}

func bashYAML(id string, n int, chain bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:\n  schedule: null\n  is_paused_upon_creation: false\n  max_active_tasks: 1000\n  tasks:\n", id)
	for i := 0; i < n; i++ {
		dep := ""
		if chain && i > 0 {
			dep = fmt.Sprintf(", dependencies: [t%03d]", i-1)
		}
		fmt.Fprintf(&b, "    - {task_id: t%03d, operator: airflow.providers.standard.operators.bash.BashOperator, bash_command: 'true'%s}\n", i, dep)
	}
	return b.String()
}

// best runs a DAG three times and returns the shortest duration.
func best(ctx context.Context, s *server, dag string) (time.Duration, error) {
	min := time.Duration(0)
	for i := 0; i < 3; i++ {
		info, err := s.run(ctx, dag, fmt.Sprint("r", i))
		if err != nil {
			return 0, err
		}
		if d := info.EndDate.Sub(*info.StartDate); min == 0 || d < min {
			min = d
		}
	}
	return min, nil
}

func benchChain(ctx context.Context, r *report) error {
	s, err := serve(ctx, engine.Config{}, map[string]string{"c.yml": bashYAML("chain", 100, true)})
	if err != nil {
		return err
	}
	d, err := best(ctx, s, "chain")
	if err != nil {
		return err
	}
	bare, err := spawns(100, 1)
	if err != nil {
		return err
	}
	r.add(result{Case: "chain", What: "100 × bash -c true in a row", Value: d.Seconds(), Unit: "s", Target: 0.5, Note: fmt.Sprintf("bare spawns %.3f s, ratio %.1f", bare.Seconds(), float64(d)/float64(bare))})
	return s.remove()
}

func benchFan(ctx context.Context, r *report) error {
	const parallelism = 32
	s, err := serve(ctx, engine.Config{Parallelism: parallelism}, map[string]string{"f.yml": bashYAML("fan", 100, false)})
	if err != nil {
		return err
	}
	d, err := best(ctx, s, "fan")
	if err != nil {
		return err
	}
	bare, err := spawns(100, parallelism)
	if err != nil {
		return err
	}
	r.add(result{Case: "fan", What: "100 × bash -c true side by side", Value: d.Seconds(), Unit: "s", Target: 0.5, Note: fmt.Sprintf("max_active_tasks 1000, parallelism %d, pool 128; bare spawns %.3f s, ratio %.1f", parallelism, bare.Seconds(), float64(d)/float64(bare))})
	return s.remove()
}

func benchHop(ctx context.Context, r *report) error {
	s, err := serve(ctx, engine.Config{}, map[string]string{"c.yml": bashYAML("bash", 200, true)})
	if err != nil {
		return err
	}
	d := enginetest.Chain("noop", 200)
	for i := range d.Tasks {
		d.Tasks[i].Fields = noop
	}
	if err := s.register(ctx, d); err != nil {
		return err
	}
	for _, c := range []struct {
		dag, what string
		target    float64
	}{{"noop", "without process start", 3}, {"bash", "with process start (bash -c true)", 5}} {
		if _, err := s.run(ctx, c.dag, "r"); err != nil {
			return err
		}
		hops, err := s.hops(ctx, store.RunKey{DagID: airflow.DagID(c.dag), RunID: "r"})
		if err != nil {
			return err
		}
		r.add(result{Case: "hop", What: "task done → next started, " + c.what + ", p50", Value: ms(percentile(hops, 0.5)), Unit: "ms", Target: c.target, Note: fmt.Sprintf("p99 %.2f ms", ms(percentile(hops, 0.99)))})
	}
	return s.remove()
}

func benchWide(ctx context.Context, r *report) error {
	const parallelism, slots = 32, 1 << 20
	s, err := serve(ctx, engine.Config{Parallelism: parallelism, DefaultPoolSlots: slots, MaxMapLength: 20000}, nil)
	if err != nil {
		return err
	}
	rate := map[int]float64{}
	for _, n := range []int{100, 1000, 10000} {
		id := fmt.Sprint("wide", n)
		if err := s.register(ctx, enginetest.DAG{ID: id, Fields: map[string]any{"max_active_tasks": slots}, Tasks: []enginetest.Task{{ID: "m", ExpandLit: n, Fields: noop}}}); err != nil {
			return err
		}
		s.meter.n.Store(0)
		info, err := s.run(ctx, id, "r")
		if err != nil {
			return err
		}
		d := info.EndDate.Sub(*info.StartDate)
		rate[n] = float64(n) / d.Seconds()
		writes := float64(s.meter.n.Load())
		res := result{Case: "wide", What: fmt.Sprintf("%d mapped no-ops", n), Value: rate[n], Unit: "tasks/s", Note: fmt.Sprintf("%.2f acknowledged writes each; max_active_tasks, pool slots %d, parallelism %d, max_map_length 20000", writes/float64(n), slots, parallelism)}
		if n == 10000 {
			res.Target, res.AtLeast = 1500, true
		}
		r.add(res)
		if n == 10000 {
			r.add(result{Case: "wide", What: "acknowledged state writes per task", Value: writes / float64(n), Unit: "writes", Target: 3})
		}
	}
	r.add(result{Case: "wide", What: "cost of a task at 10,000 over that at 100", Value: rate[100] / rate[10000], Unit: "×", Target: 1.5})
	return s.remove()
}

func benchStart(ctx context.Context, r *report) error {
	files := map[string]string{}
	for i := 0; i < 1000; i++ {
		files[fmt.Sprintf("d%04d.yml", i)] = bashYAML(fmt.Sprintf("dag%04d", i), 10, true)
	}
	begin := time.Now()
	s, err := serve(ctx, engine.Config{}, files)
	if err != nil {
		return err
	}
	r.add(result{Case: "start", What: "standalone up with 1,000 DAG files, cold", Value: time.Since(begin).Seconds(), Unit: "s"})
	if err := s.stop(); err != nil {
		return err
	}
	begin = time.Now()
	if s, err = serveHome(ctx, engine.Config{}, s.dir); err != nil {
		return err
	}
	r.add(result{Case: "start", What: "standalone up with 1,000 DAG files, warm", Value: time.Since(begin).Seconds(), Unit: "s", Target: 2})
	time.Sleep(time.Second)
	before, at := cpu(), time.Now()
	time.Sleep(5 * time.Second)
	r.add(result{Case: "start", What: "CPU while idle", Value: 100 * (cpu() - before).Seconds() / time.Since(at).Seconds(), Unit: "%", Target: 1})
	return s.remove()
}

// cpu is the processor time this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// many registers n daily DAGs that share one document shape; dueEvery of them are due.
func many(ctx context.Context, s *server, n int, due func(i int) bool, at time.Time) error {
	type job struct{ from, to int }
	jobs := make(chan job)
	errs := make(chan error, 16)
	for w := 0; w < 16; w++ {
		go func() {
			var err error
			for j := range jobs {
				for i := j.from; i < j.to && err == nil; i++ {
					d := enginetest.Chain(fmt.Sprintf("dag%06d", i), 1)
					d.Cron = "0 0 * * *"
					d.Tasks[0].Empty = true
					doc, hash, cerr := airflow.CanonicalDAG(d.Document())
					if cerr != nil {
						err = cerr
						break
					}
					if err = s.app.Store.PutDocument(ctx, hash, doc); err != nil {
						break
					}
					next := at.Add(24 * time.Hour)
					if due(i) {
						next = at.Add(-time.Minute)
					}
					err = s.app.Store.CreateDag(ctx, airflow.DagModel{DagID: airflow.DagID(d.ID), LatestVersion: 1, LatestHash: hash, NextDagRunCreateAfter: &next})
				}
			}
			errs <- err
		}()
	}
	for i := 0; i < n; i += 500 {
		jobs <- job{i, min(i+500, n)}
	}
	close(jobs)
	var first error
	for w := 0; w < 16; w++ {
		if err := <-errs; err != nil {
			first = err
		}
	}
	return first
}

// offline opens an engine that only ticks when told to, on a home of its own.
func offline(ctx context.Context) (*server, error) {
	no := false
	return serve(ctx, engine.Config{UseJobSchedule: &no, Parallelism: 1 << 20, DefaultPoolSlots: 1 << 20}, nil)
}

func benchTick(ctx context.Context, r *report) error {
	const n, due = 100_000, 100
	s, err := offline(ctx)
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	begin := time.Now()
	if err := many(ctx, s, n, func(i int) bool { return i%(n/due) == 0 }, now); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "    registered %d DAGs in %.1f s\n", n, time.Since(begin).Seconds())
	e := engine.New(engine.Options{Store: s.app.Store, Config: engine.Config{DueBatch: 500}})
	var m1, m2 runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m1)
	begin = time.Now()
	res, err := e.Tick(ctx, 4)
	if err != nil {
		return err
	}
	took := time.Since(begin)
	if res.Due != due {
		return fmt.Errorf("%d DAGs were due, expected %d", res.Due, due)
	}
	r.add(result{Case: "tick", What: "tick with 100,000 DAGs, 100 due", Value: ms(took), Unit: "ms", Target: 50})
	runtime.GC()
	runtime.ReadMemStats(&m2)
	r.add(result{Case: "tick", What: "memory kept by the engine for 100,000 DAGs", Value: (float64(m2.HeapAlloc) - float64(m1.HeapAlloc)) / (1 << 20), Unit: "MB", Target: 16})
	e.Close()
	return s.remove()
}

func benchAllDue(ctx context.Context, r *report) error {
	const n = 100_000
	s, err := offline(ctx)
	if err != nil {
		return err
	}
	if err := many(ctx, s, n, func(int) bool { return true }, time.Now().UTC()); err != nil {
		return err
	}
	e := engine.New(engine.Options{Store: s.app.Store, Config: engine.Config{DueBatch: 2000}})
	begin := time.Now()
	made := 0
	for {
		res, err := e.Tick(ctx, 16)
		if err != nil {
			return err
		}
		made += res.Due
		if !res.More {
			break
		}
	}
	took := time.Since(begin)
	if made < n {
		return fmt.Errorf("%d of %d runs created", made, n)
	}
	r.add(result{Case: "alldue", What: "100,000 DAGs due at once: every run created", Value: took.Seconds(), Unit: "s", Target: 300})
	e.Close()
	return s.remove()
}
