// Package pyproc runs jobs in CPython: a process per job, in a session of its
// own, with a clean environment, that talks to the worker over an inherited
// socket. Frames are a 4-byte big-endian length and that many bytes of JSON.
//
// A job's process is forked from a zygote (an interpreter with the runner
// already imported, one per trust domain) or, without one, spawned.
package pyproc

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/gustflow/gust/internal/worker/proc"
	"github.com/gustflow/gust/python"
)

// Job is what the process is to do; see python/runtime/gust_runner/runner.py.
type Job struct {
	// Kind is python, short_circuit, sensor, bool, callback or date_fn.
	Kind     string   `json:"kind"`
	Callable Callable `json:"callable"`
	// OpArgs and OpKwargs are XCom-encoded (serde).
	OpArgs        json.RawMessage `json:"op_args,omitempty"`
	OpKwargs      json.RawMessage `json:"op_kwargs,omitempty"`
	TemplatesDict json.RawMessage `json:"templates_dict,omitempty"`
	// Inject passes what the callable accepts of the context; AcceptedOnly
	// drops the OpKwargs it does not accept.
	Inject       bool `json:"inject,omitempty"`
	AcceptedOnly bool `json:"accepted_only,omitempty"`
	// Isolated runs the function from its source alone (virtualenv operators).
	Isolated bool      `json:"isolated,omitempty"`
	Response *Response `json:"response,omitempty"`
	// Responses go ahead of the arguments as one list, as Response does alone.
	Responses []*Response `json:"responses,omitempty"`
	// Cursor goes ahead of the arguments: what a statement has given.
	Cursor   *Cursor `json:"cursor,omitempty"`
	LogValue bool    `json:"log_value,omitempty"`
	// Timeout, in seconds, raises AirflowTaskTimeout in the callable; 0 = none.
	Timeout float64  `json:"timeout,omitempty"`
	SysPath []string `json:"sys_path,omitempty"`
	// OwnAirflow: an airflow package is on SysPath; do not answer its imports.
	OwnAirflow bool            `json:"own_airflow,omitempty"`
	LogLevel   string          `json:"log_level,omitempty"`
	Context    json.RawMessage `json:"context"`
	// KeywordContext calls a callback as Airflow calls those of deadlines: with
	// keywords only, and this as context if it accepts one.
	KeywordContext json.RawMessage `json:"keyword_context,omitempty"`
}

// Callable names a Python callable: an import path, a name in a file, or the
// source of a lambda.
type Callable struct {
	Path   string `json:"path,omitempty"`
	File   string `json:"file,omitempty"`
	Name   string `json:"name,omitempty"`
	Lambda string `json:"lambda,omitempty"`
}

// String returns the import path, or file:name.
func (c Callable) String() string {
	switch {
	case c.Lambda != "":
		return c.Lambda
	case c.File != "":
		return c.File + ":" + c.Name
	}
	return c.Path
}

// Response is an HTTP answer passed to a check as its first argument.
type Response struct {
	StatusCode int               `json:"status_code"`
	Reason     string            `json:"reason,omitempty"`
	URL        string            `json:"url,omitempty"`
	Headers    map[string]string `json:"headers,omitempty"`
	Content    []byte            `json:"content"` // base64 in JSON
	Encoding   string            `json:"encoding,omitempty"`
}

// Cursor is the result of an SQL statement, as a handler sees it.
type Cursor struct {
	// Columns are the names; nil for a statement without a result.
	Columns []string        `json:"columns"`
	Rows    json.RawMessage `json:"rows,omitempty"` // XCom-encoded
}

// Result is how a job ended.
type Result struct {
	// Outcome is success, skipped, up_for_reschedule, failed, failed_final or exit.
	Outcome string          `json:"outcome"`
	Value   json.RawMessage `json:"value"` // XCom-encoded
	Message string          `json:"message"`
	// Class, its Bases (names, itself first) and Traceback of an exception.
	Class     string    `json:"class"`
	Bases     []string  `json:"bases"`
	Traceback string    `json:"traceback"`
	Code      int       `json:"code"` // exit
	At        time.Time `json:"at"`   // up_for_reschedule
	// OutletEvents are what the callable added to its outlets.
	OutletEvents []OutletEvent `json:"outlet_events"`
	// ContextAdded are the names the callable added to the context.
	ContextAdded map[string]json.RawMessage `json:"context_added"`
}

// OutletEvent is what a callable added to one outlet.
type OutletEvent struct {
	Kind  string          `json:"kind"` // asset or alias
	Name  string          `json:"name"`
	Extra json.RawMessage `json:"extra"`
	Added []struct {
		Name  string          `json:"name"`
		URI   string          `json:"uri"`
		Extra json.RawMessage `json:"extra"`
	} `json:"added"`
}

// Is reports whether the exception is of the named class or derives from it.
func (r *Result) Is(class string) bool {
	for _, b := range r.Bases {
		if b == class {
			return true
		}
	}
	return false
}

// Server answers what a job asks. Errors of type *RemoteError keep their class.
type Server interface {
	// Serve answers one request; nil is Python's None.
	Serve(ctx context.Context, kind string, request json.RawMessage) (any, error)
	// Log takes one record; level is debug, info, warning, error or critical.
	Log(level, logger, event string)
}

// RemoteError is an error that the job sees with its class.
type RemoteError struct{ Class, Message string }

// Error returns class: message.
func (e *RemoteError) Error() string { return e.Class + ": " + e.Message }

// Run is one call of Host.Run.
type Run struct {
	Job    Job
	Server Server
	// Python is the interpreter; "" is the host's.
	Python string
	// Env is the whole environment of the process.
	Env []string
	Dir string
	// As is the user the process runs as; nil is this process's. Share returns
	// where that user can read a folder of ours; it is called if As is set.
	As    *proc.User
	Share func(dir string) (string, error)
	// Trust names what may share a zygote (a bundle); "" spawns.
	Trust string
	// Grace is the time between SIGTERM and SIGKILL.
	Grace time.Duration
}

// ErrNoResult says that the process ended without reporting a result.
var ErrNoResult = errors.New("the Python process ended without a result")

// Host starts jobs. It is safe for concurrent use.
type Host struct {
	python, cacheDir string
	installation     string
	maxZygotes       int

	mu      sync.Mutex
	dir     string
	zygotes map[zygoteKey]*zygote
	closed  bool
	protect bool
}

// NewHost returns a Host. interpreter "" is python3 of PATH, cacheDir "" the
// user's cache folder. maxZygotes 0 spawns every job.
func NewHost(interpreter, cacheDir, installation string, maxZygotes int) *Host {
	if interpreter == "" {
		interpreter = "python3"
	}
	return &Host{python: interpreter, cacheDir: cacheDir, installation: installation, maxZygotes: maxZygotes, zygotes: map[zygoteKey]*zygote{}}
}

// Protect keeps jobs from reading or tracing the zygotes they were forked from,
// where both run as the same user. Orphans are then not found by their
// environment: it is for hosts that end their processes themselves. Call it
// before the first job.
func (h *Host) Protect() { h.protect = true }

// Close ends the zygotes; running jobs are killed with them.
func (h *Host) Close() {
	h.mu.Lock()
	h.closed = true
	zs := h.zygotes
	h.zygotes = map[zygoteKey]*zygote{}
	h.mu.Unlock()
	for _, z := range zs {
		z.close()
	}
}

func (h *Host) runtimeDir() (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dir != "" {
		return h.dir, nil
	}
	root := h.cacheDir
	if root == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			base = os.TempDir()
		}
		root = filepath.Join(base, "gust")
	}
	dir, err := python.Unpack(root)
	if err != nil && h.cacheDir == "" { // a read-only home, as in Lambda
		shared := filepath.Join(os.TempDir(), fmt.Sprintf("gust-%d", os.Getuid()))
		if err = os.Mkdir(shared, 0o700); err == nil || errors.Is(err, os.ErrExist) {
			if err = private(shared); err == nil {
				dir, err = python.Unpack(shared)
			}
		}
	}
	if err == nil {
		h.dir = dir
	}
	return dir, err
}

// private reports why a folder in a place that all users share cannot hold code.
func private(dir string) error {
	st, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok || !st.IsDir() || int(sys.Uid) != os.Getuid() || st.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s must be a folder that only this user can write: remove it, or name another cache folder", dir)
	}
	return nil
}

// child is a running job's process.
type child interface {
	PID() int
	Wait() proc.Exit
	End(grace time.Duration) proc.Exit
}

// Run runs a job and returns its result. When ctx ends, the process group gets
// SIGTERM and, after Grace, SIGKILL, and ctx's cause is returned. ErrNoResult
// (wrapped, with the process's end in words) means that it died.
func (h *Host) Run(ctx context.Context, r Run) (*Result, error) {
	conn, peer, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("start Python: %w", err)
	}
	defer conn.Close()
	interp := r.Python
	if interp == "" {
		interp = h.python
	}
	c, err := h.start(r, interp, peer)
	peer.Close()
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { c.End(r.Grace) })
	res, err := converse(ctx, conn, r)
	if !stop() {
		c.Wait()
		return nil, context.Cause(ctx)
	}
	// The result is final; what the process still does (its atexit handlers,
	// daemon threads) gets the grace time, no more.
	t := time.AfterFunc(max(r.Grace, time.Second), func() { c.End(0) })
	defer t.Stop()
	exit := c.Wait()
	if ctx.Err() != nil && res == nil {
		return nil, context.Cause(ctx)
	}
	if res != nil {
		return res, nil
	}
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		return nil, fmt.Errorf("%w: %w (%v)", ErrNoResult, err, exit)
	}
	return nil, fmt.Errorf("%w: %v", ErrNoResult, exit)
}

func (h *Host) start(r Run, interp string, peer *os.File) (child, error) {
	dir, err := h.runtimeDir()
	if err != nil {
		return nil, err
	}
	look := exec.LookPath
	if r.As != nil {
		look = r.As.LookPath
	}
	path, err := look(interp)
	if err != nil {
		return nil, fmt.Errorf("Python interpreter %q was not found: install CPython 3.10 or newer on the worker, or set its path: %w", interp, err)
	}
	out := func(b []byte) { r.Server.Log("info", "task.stdout", string(b)) }
	errs := func(b []byte) { r.Server.Log("error", "task.stderr", string(b)) }
	if r.As != nil {
		if dir, err = r.Share(dir); err != nil {
			return nil, err
		}
		if r.Dir == "" {
			r.Dir = "/" // the server's may be closed to the user
		}
	}
	if r.As == nil && r.Trust != "" && h.maxZygotes > 0 {
		c, err := h.fork(zygoteKey{path, r.Trust}, dir, r, peer, out, errs)
		if err == nil {
			return c, nil
		}
		// A zygote that fails to start must not stop the task: spawn, and say so.
		r.Server.Log("debug", "gust.worker", "no process could be forked, starting one: "+err.Error())
	}
	return proc.Start(proc.Spec{
		Path: path, Args: []string{filepath.Join(dir, python.Boot), "run", "3"}, Env: r.Env, Dir: r.Dir, As: r.As,
		ExtraFiles: []*os.File{peer}, Stdout: out, Stderr: errs,
	})
}

// converse sends the job, answers requests and returns the result.
func converse(ctx context.Context, conn net.Conn, r Run) (*Result, error) {
	w := &frameWriter{conn: conn}
	if err := w.write(r.Job); err != nil {
		return nil, err
	}
	br := bufio.NewReaderSize(conn, 32<<10)
	for {
		frame, err := readFrame(br)
		if err != nil {
			return nil, err
		}
		var head struct {
			Type                 string
			ID                   int64
			Level, Logger, Event string
		}
		if err := json.Unmarshal(frame, &head); err != nil {
			return nil, fmt.Errorf("unreadable frame from Python: %w", err)
		}
		switch head.Type {
		case "log":
			r.Server.Log(head.Level, head.Logger, head.Event)
		case "result":
			res := new(Result)
			if err := json.Unmarshal(frame, res); err != nil {
				return nil, fmt.Errorf("unreadable result from Python: %w", err)
			}
			return res, nil
		default:
			if err := w.write(answer(ctx, r.Server, head.ID, head.Type, frame)); err != nil {
				return nil, err
			}
		}
	}
}

type reply struct {
	ID     int64       `json:"id"`
	Result any         `json:"result,omitempty"`
	Error  *replyError `json:"error,omitempty"`
}

type replyError struct {
	Class   string `json:"class"`
	Message string `json:"message"`
}

func answer(ctx context.Context, s Server, id int64, kind string, frame json.RawMessage) reply {
	v, err := s.Serve(ctx, kind, frame)
	if err == nil {
		return reply{ID: id, Result: v}
	}
	var re *RemoteError
	if errors.As(err, &re) {
		return reply{ID: id, Error: &replyError{re.Class, re.Message}}
	}
	return reply{ID: id, Error: &replyError{"AirflowRuntimeError", err.Error()}}
}

type frameWriter struct{ conn net.Conn }

func (w *frameWriter) write(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode a frame for Python: %w", err)
	}
	buf := make([]byte, 4, 4+len(b))
	binary.BigEndian.PutUint32(buf, uint32(len(b)))
	_, err = w.conn.Write(append(buf, b...))
	return err
}

// maxFrame bounds what a job can make the worker hold.
const maxFrame = 256 << 20

func readFrame(r io.Reader) (json.RawMessage, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxFrame {
		return nil, fmt.Errorf("a frame of %d bytes exceeds the limit of %d: write large data to storage and return its address", n, maxFrame)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}

// socketPair returns one end for this process and one to pass on.
func socketPair() (net.Conn, *os.File, error) {
	syscall.ForkLock.RLock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, err
	}
	own := os.NewFile(uintptr(fds[0]), "job")
	defer own.Close()
	conn, err := net.FileConn(own)
	if err != nil {
		syscall.Close(fds[1])
		return nil, nil, err
	}
	return conn, os.NewFile(uintptr(fds[1]), "job-peer"), nil
}
