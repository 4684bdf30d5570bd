package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/dagprocessor"
	"github.com/gustflow/gust/internal/dagprocessor/yamlloader"
	"github.com/gustflow/gust/internal/dagspec"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/engine/enginetest"
	"github.com/gustflow/gust/internal/localapp"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv"
)

// server is a whole Gust on a folder of its own, in this process.
type server struct {
	dir   string
	app   *localapp.App
	meter *writes
	stop  func() error
}

// writes counts acknowledged writes.
type writes struct {
	kv.Driver
	n atomic.Int64
}

// Write implements kv.Driver.
func (w *writes) Write(ctx context.Context, op kv.Op) error {
	err := w.Driver.Write(ctx, op)
	if err == nil {
		w.n.Add(1)
	}
	return err
}

// Transact implements kv.Driver.
func (w *writes) Transact(ctx context.Context, token string, ops []kv.Op) error {
	err := w.Driver.Transact(ctx, token, ops)
	if err == nil {
		w.n.Add(1)
	}
	return err
}

// serve starts a server over files (name → content).
func serve(ctx context.Context, cfg engine.Config, files map[string]string) (*server, error) {
	dir, err := os.MkdirTemp("", "gust-bench-")
	if err != nil {
		return nil, err
	}
	dags := filepath.Join(dir, "dags")
	if err := os.MkdirAll(dags, 0o755); err != nil {
		return nil, err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dags, name), []byte(content), 0o644); err != nil {
			return nil, err
		}
	}
	return serveHome(ctx, cfg, dir)
}

// serveHome starts a server on a folder that serve made.
func serveHome(ctx context.Context, cfg engine.Config, dir string) (*server, error) {
	s := &server{dir: dir}
	ctx, cancel := context.WithCancel(ctx)
	ready, done := make(chan struct{}), make(chan error, 1)
	dags := filepath.Join(dir, "dags")
	py := dagspec.NewInterpreter(dags)
	go func() {
		done <- localapp.Serve(ctx, localapp.Options{
			Home: filepath.Join(dir, "home"), DagsFolder: dags, Engine: cfg, MaxMapLength: cfg.MaxMapLength,
			Loader:     yamlloader.New(yamlloader.Config{Options: dagspec.Options{Python: py}}),
			WrapDriver: func(d kv.Driver) kv.Driver { s.meter = &writes{Driver: d}; return s.meter },
		}, localapp.ServeOptions{
			Opened: func(a *localapp.App) { s.app = a },
			Ready:  func(string, dagprocessor.Summary) { close(ready) },
		})
	}()
	s.stop = func() error {
		cancel()
		return errors.Join(<-done, py.Close())
	}
	select {
	case <-ready:
		return s, nil
	case err := <-done:
		cancel()
		return nil, fmt.Errorf("server: %w", err)
	}
}

// remove stops the server and deletes its folder.
func (s *server) remove() error { return errors.Join(s.stop(), os.RemoveAll(s.dir)) }

// register stores a DAG made in memory, un-paused.
func (s *server) register(ctx context.Context, d enginetest.DAG) error {
	doc, hash, err := airflow.CanonicalDAG(d.Document())
	if err != nil {
		return err
	}
	if err := s.app.Store.PutDocument(ctx, hash, doc); err != nil {
		return err
	}
	return s.app.Store.CreateDag(ctx, airflow.DagModel{DagID: airflow.DagID(d.ID), LatestVersion: 1, LatestHash: hash})
}

// run triggers a run and waits for its end.
func (s *server) run(ctx context.Context, dag, id string) (airflow.DagRun, error) {
	info, err := s.app.Engine.Trigger(ctx, engine.TriggerOptions{DagID: airflow.DagID(dag), RunID: airflow.RunID(id), TriggeredBy: airflow.TriggeredByTest})
	if err != nil {
		return info, err
	}
	k := store.RunKey{DagID: info.DagID, RunID: info.RunID}
	for {
		if info, err = s.app.Store.GetRun(ctx, k); err != nil {
			return info, err
		}
		if info.State.Finished() {
			if info.State != airflow.RunSuccess {
				return info, fmt.Errorf("run %s ended %s", k, info.State)
			}
			return info, nil
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// hops returns the times from the end of a task to the start of the next one in a chain.
func (s *server) hops(ctx context.Context, k store.RunKey) ([]time.Duration, error) {
	tis, err := s.app.Engine.TaskInstances(ctx, k)
	if err != nil {
		return nil, err
	}
	var keys []airflow.TaskInstanceKey
	for _, ti := range tis {
		keys = append(keys, ti.TaskInstanceKey)
	}
	rows, err := s.app.Store.GetAttempts(ctx, keys)
	if err != nil {
		return nil, err
	}
	var out []time.Duration
	for i := 1; i < len(keys); i++ {
		a, b := rows[keys[i-1]], rows[keys[i]]
		if a.EndDate != nil && b.StartDate != nil {
			out = append(out, b.StartDate.Sub(*a.EndDate))
		}
	}
	return out, nil
}
