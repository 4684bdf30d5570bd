// Package shellexec is an executor that runs each dispatch as a process of this
// machine: the smallest whole implementation of the port, and the example to start
// from for another one.
//
// A dispatch has a folder, named by the hash of the dispatch: whoever makes it starts
// the process, so that a dispatch that is submitted again, also by another process or
// after a restart, starts once. Processes lead sessions of their own and outlive the
// executor; the next one finds them by their folders and knows them again by the time
// at which they were started (process ids are used again).
package shellexec

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/executor"
	"github.com/gustflow/gust/internal/worker"
)

// Name is what a task's executor argument calls it.
const Name = "ShellExecutor"

// DispatchVariable carries the dispatch, as JSON, in the environment of a worker.
const DispatchVariable = "GUST_DISPATCH"

// Options configure an Executor. Dir and Command are required.
type Options struct {
	// Dir holds a folder per dispatch. It belongs to the executor alone.
	Dir string
	// Command is the worker program and its arguments, such as gust worker.
	Command []string
	// Environ returns the whole environment of a dispatch's worker but for
	// DispatchVariable: with rights to this dispatch, and to nothing else. The
	// executor's own environment is not passed on. nil = PATH only.
	Environ func(d worker.Dispatch) ([]string, error)
	// Grace is the time between SIGTERM and SIGKILL. Default 10 s.
	Grace time.Duration
	// Keep is how long the folder of a dispatch that has ended stays, with its
	// output, and how long submitting it again is known to be a repetition. Default 24 h.
	Keep time.Duration
}

// Executor runs dispatches as processes. It is safe for concurrent use.
type Executor struct {
	o Options

	mu     sync.Mutex
	closed bool
	ours   map[string]chan struct{} // by folder: closed when the child was waited for
}

var (
	_ executor.Adopter = (*Executor)(nil)
	_ executor.Logger  = (*Executor)(nil)
)

// New returns an executor.
func New(o Options) (*Executor, error) {
	if o.Dir == "" || len(o.Command) == 0 {
		return nil, errors.New("shellexec: Options needs Dir and Command")
	}
	if o.Environ == nil {
		o.Environ = func(worker.Dispatch) ([]string, error) { return []string{"PATH=" + os.Getenv("PATH")}, nil }
	}
	if o.Grace == 0 {
		o.Grace = 10 * time.Second
	}
	if o.Keep == 0 {
		o.Keep = 24 * time.Hour
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("shellexec: %w", err)
	}
	return &Executor{o: o, ours: map[string]chan struct{}{}}, nil
}

// Name implements executor.Executor.
func (x *Executor) Name() string { return Name }

const (
	fileDispatch = "dispatch.json"
	fileProcess  = "process" // "<pid> <start time>"
	fileOutput   = "output"
)

func (x *Executor) folder(d worker.Dispatch) string {
	sum := sha256.Sum256([]byte(d.String()))
	return filepath.Join(x.o.Dir, hex.EncodeToString(sum[:16]))
}

// Submit implements executor.Executor.
func (x *Executor) Submit(ctx context.Context, ds []worker.Dispatch) error {
	var errs []error
	for _, d := range ds {
		if err := ctx.Err(); err != nil {
			return errors.Join(append(errs, err)...)
		}
		if err := x.start(d); err != nil {
			errs = append(errs, fmt.Errorf("dispatch %s: %w", d, err))
		}
	}
	return errors.Join(errs...)
}

// start starts a dispatch unless it was started before.
func (x *Executor) start(d worker.Dispatch) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return fmt.Errorf("executor %s is closed", Name)
	}
	dir := x.folder(d)
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrExist) {
		// Made before. One that never came to its process, because this machine died in
		// between, is started now.
		if _, err := os.Stat(filepath.Join(dir, fileProcess)); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	} else if err != nil {
		return err
	}
	body, err := json.Marshal(d)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, fileDispatch), body, 0o600); err != nil {
		return err
	}
	env, err := x.o.Environ(d)
	if err != nil {
		return err
	}
	out, err := os.OpenFile(filepath.Join(dir, fileOutput), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(x.o.Command[0], x.o.Command[1:]...)
	cmd.Dir, cmd.Env = dir, append(append([]string{}, env...), DispatchVariable+"="+string(body))
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	x.ours[dir] = done
	go func() {
		_ = cmd.Wait() // how it ended its report says, or that it ended without one
		close(done)
	}()
	began, err := startTime(cmd.Process.Pid)
	if err != nil {
		began = "ended" // already over
	}
	return os.WriteFile(filepath.Join(dir, fileProcess), fmt.Appendf(nil, "%d %s", cmd.Process.Pid, began), 0o600)
}

// process returns the running process of a folder.
func (x *Executor) process(dir string) (pid int, ok bool) {
	b, err := os.ReadFile(filepath.Join(dir, fileProcess))
	if err != nil {
		return 0, false
	}
	id, began, _ := strings.Cut(string(b), " ")
	if pid, err = strconv.Atoi(id); err != nil || pid <= 1 {
		return 0, false
	}
	now, err := startTime(pid)
	return pid, err == nil && now == began
}

// startTime is when a process was started, in ticks since the machine was; a process
// that has ended, also one not waited for, is an error.
func startTime(pid int) (string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	// The name, in parentheses, may hold anything.
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(f) < 20 || f[0] == "Z" || f[0] == "X" {
		return "", fs.ErrNotExist
	}
	return f[19], nil
}

// Observe implements executor.Executor.
func (x *Executor) Observe(d worker.Dispatch) bool {
	_, ok := x.process(x.folder(d))
	return ok
}

// Cancel implements executor.Executor: SIGTERM to the worker's session, and SIGKILL to
// what is left of it after the grace.
func (x *Executor) Cancel(d worker.Dispatch, _ string) {
	dir := x.folder(d)
	pid, ok := x.process(dir)
	if !ok {
		return
	}
	_ = syscall.Kill(-pid, syscall.SIGTERM) // it may have ended just now
	go func() {
		for end := time.Now().Add(x.o.Grace); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			if _, ok := x.process(dir); !ok {
				break
			}
		}
		if again, ok := x.process(dir); ok && again == pid {
			_ = syscall.Kill(-pid, syscall.SIGKILL)
		}
	}()
}

// Adopt implements executor.Adopter, and removes folders that nobody needs any more.
func (x *Executor) Adopt(context.Context) ([]worker.Dispatch, error) {
	entries, err := os.ReadDir(x.o.Dir)
	if err != nil {
		return nil, err
	}
	var out []worker.Dispatch
	for _, e := range entries {
		dir := filepath.Join(x.o.Dir, e.Name())
		if _, ok := x.process(dir); !ok {
			if fi, err := e.Info(); err == nil && time.Since(fi.ModTime()) > x.o.Keep {
				if err := os.RemoveAll(dir); err != nil {
					return out, err
				}
			}
			continue
		}
		var d worker.Dispatch
		b, err := os.ReadFile(filepath.Join(dir, fileDispatch))
		if err == nil {
			err = json.Unmarshal(b, &d)
		}
		if err != nil {
			return out, fmt.Errorf("%s: %w", dir, err)
		}
		out = append(out, d)
	}
	return out, nil
}

// Output implements executor.Logger.
func (x *Executor) Output(_ context.Context, d worker.Dispatch) (io.ReadCloser, error) {
	f, err := os.Open(filepath.Join(x.folder(d), fileOutput))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("output of %s: %w", d, airflow.ErrNotFound)
	}
	return f, err
}

// Close implements executor.Executor. Processes go on: the next executor adopts them.
func (x *Executor) Close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.closed = true
}
