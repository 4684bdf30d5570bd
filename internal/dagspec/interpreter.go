package dagspec

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

//go:embed inspect.py
var inspectScript string

//go:embed call.py
var callScript string

// Interpreter is the Python of a python3 executable: one long-lived child reads
// sources (it imports nothing of the user's), and calls run in children of
// their own with limits on time, memory and files.
//
// The zero Path means python3 of PATH. Close ends the child. An Interpreter
// without a python3 answers ErrNoPython to everything.
type Interpreter struct {
	Path string
	// SearchPath are the folders where modules of DAG files are looked for,
	// before the interpreter's own sys.path.
	SearchPath []string
	// CallTimeout bounds one Call; 0 means 10 s.
	CallTimeout time.Duration

	mu    sync.Mutex
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Reader
	cache map[string]*PyModule
	gone  bool
}

// NewInterpreter returns an Interpreter that looks for modules in searchPath.
func NewInterpreter(searchPath ...string) *Interpreter {
	return &Interpreter{SearchPath: searchPath}
}

func (p *Interpreter) path() (string, error) {
	if p.Path != "" {
		return p.Path, nil
	}
	path, err := exec.LookPath("python3")
	if err != nil {
		return "", ErrNoPython
	}
	return path, nil
}

// environment is what a child needs; nothing of the parent's secrets.
func environment() []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "LC_ALL=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1"}
	if libs := os.Getenv("LD_LIBRARY_PATH"); libs != "" {
		env = append(env, "LD_LIBRARY_PATH="+libs) // Lambda's Python finds its own library there
	}
	return env
}

func (p *Interpreter) start() error {
	if p.gone {
		return ErrNoPython
	}
	if p.cmd != nil {
		return nil
	}
	path, err := p.path()
	if err != nil {
		p.gone = true
		return err
	}
	cmd := exec.Command(path, "-I", "-S", "-c", inspectScript)
	cmd.Env = environment()
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		p.gone = true
		return fmt.Errorf("%w: %v", ErrNoPython, err)
	}
	p.cmd, p.in, p.out, p.cache = cmd, in, bufio.NewReader(out), map[string]*PyModule{}
	_, err = p.ask(map[string]any{"op": "path", "path": append(append([]string{}, p.SearchPath...), sitePackages(path)...)})
	return err
}

// sitePackages asks the interpreter once for its own search path (-S hides it
// from the inspecting child, which must not run .pth files).
func sitePackages(path string) []string {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "-I", "-c", "import sys,json;print(json.dumps(sys.path))")
	cmd.Env = environment()
	b, err := cmd.Output()
	if err != nil {
		return nil
	}
	var out []string
	_ = json.Unmarshal(b, &out) // an interpreter that prints something else has no packages
	return out
}

func (p *Interpreter) ask(req any) (*PyModule, error) {
	b, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	if _, err := p.in.Write(append(b, '\n')); err != nil {
		return nil, p.lost(err)
	}
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return nil, p.lost(err)
	}
	m := &PyModule{}
	if err := json.Unmarshal(line, m); err != nil {
		return nil, p.lost(err)
	}
	return m, nil
}

// lost drops a child that died, so that the next question starts another.
func (p *Interpreter) lost(err error) error {
	_ = p.in.Close()
	_ = p.cmd.Wait()
	p.cmd = nil
	return fmt.Errorf("the Python inspector ended: %w", err)
}

func (p *Interpreter) cached(key string, req any) (*PyModule, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.start(); err != nil {
		return nil, err
	}
	if m, ok := p.cache[key]; ok {
		return m, nil
	}
	m, err := p.ask(req)
	if err == nil {
		p.cache[key] = m
	}
	return m, err
}

// Module implements Python.
func (p *Interpreter) Module(name string) (*PyModule, error) {
	return p.cached("m:"+name, map[string]any{"op": "module", "name": name})
}

// File implements Python.
func (p *Interpreter) File(path string) (*PyModule, error) {
	return p.cached("f:"+path, map[string]any{"op": "file", "path": path})
}

// Forget drops what is known of modules, for a new look at changed files.
func (p *Interpreter) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cache != nil {
		p.cache = map[string]*PyModule{}
	}
}

// Close ends the child, if one runs.
func (p *Interpreter) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return nil
	}
	_ = p.in.Close()
	err := p.cmd.Wait()
	p.cmd = nil
	return err
}

const maxResult = 1 << 20

// Call implements Python.
func (p *Interpreter) Call(call PyCall) (PyResult, error) {
	path, err := p.path()
	if err != nil {
		return PyResult{}, err
	}
	req := struct {
		PyCall
		Path []string `json:"path"`
	}{call, p.SearchPath}
	b, err := json.Marshal(req)
	if err != nil {
		return PyResult{}, err
	}
	limit := p.CallTimeout
	if limit == 0 {
		limit = 10 * time.Second
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "-I", "-c", callScript)
	cmd.Env = environment()
	cmd.Dir = os.TempDir()
	cmd.Stdin = bytes.NewReader(b)
	var out, errs limitedBuffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	if ctx.Err() != nil {
		return PyResult{}, fmt.Errorf("took longer than %v", limit)
	}
	var res PyResult
	if jerr := json.Unmarshal(out.Bytes(), &res); jerr != nil {
		if err == nil {
			err = errors.New("no result")
		}
		return PyResult{}, fmt.Errorf("%v: %.300s", err, errs.Bytes())
	}
	return res, nil
}

// limitedBuffer keeps the first MiB.
type limitedBuffer struct{ bytes.Buffer }

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if room := maxResult - b.Len(); room > 0 {
		b.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
