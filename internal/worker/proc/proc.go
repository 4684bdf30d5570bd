// Package proc runs the child processes of tasks: each in a session of its own,
// with its output read line by line, ended as a group, and marked in its
// environment so that a restarted server finds those it left behind.
package proc

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// The environment markers of children.
const (
	// EnvDispatch holds the dispatch: dag/run/task/map_index/dispatch_seq.
	EnvDispatch = "GUST_DISPATCH"
	// EnvInstallation holds the installation that started the child, so that
	// two servers on one machine leave each other's children alone.
	EnvInstallation = "GUST_INSTALLATION"
	// envChild is a number of its own for each child of this package, by which
	// its descendants are found when they have left its process group.
	envChild = "GUST_CHILD"
)

// MaxLine is the longest line passed to Output in one piece; longer ones are cut.
const MaxLine = 256 << 10

// Spec describes a child process.
type Spec struct {
	Path string   // resolved with PATH of this process if it has no slash
	Args []string // without argv[0]
	Env  []string
	Dir  string
	// Stdin is /dev/null if nil.
	Stdin *os.File
	// DeathSignal is what the child gets when this process ends, where the
	// system can do that; 0 is SIGKILL.
	DeathSignal syscall.Signal
	// As is the user the child runs as; nil is this process's.
	As *User
	// GroupOnly limits End to the child's process group. Otherwise descendants
	// that left it are killed as well, where the system can find them.
	GroupOnly bool
	// ExtraFiles become fd 3, 4, …
	ExtraFiles []*os.File
	// Stdout and Stderr receive each line without its end. They are called from
	// one goroutine each; if Stderr is nil both streams arrive, in order, at
	// Stdout. The slice is valid during the call only.
	Stdout, Stderr func(line []byte)
}

// Process is a running child.
type Process struct {
	mark    string // its entry in the environment of its descendants, "" for none
	cmd     *exec.Cmd
	outputs sync.WaitGroup
	pipes   []*os.File
	ooms    int64
	done    chan struct{}
	exit    Exit
	// ended is set when the group was told to end, for Exit.
	ended atomic.Int32
}

// started counts the children of this package.
var started atomic.Int64

// Started is how many children this process has started, or tried to.
func Started() int64 { return started.Load() }

// Start starts a child.
func Start(s Spec) (*Process, error) {
	started.Add(1)
	if s.As != nil {
		path, err := s.As.LookPath(s.Path)
		if err != nil {
			return nil, err
		}
		s.Path = path
	}
	p := &Process{done: make(chan struct{}), ooms: oomKills()}
	cmd := exec.Command(s.Path, s.Args...)
	if s.Env == nil {
		s.Env = os.Environ()
	}
	if !s.GroupOnly {
		p.mark = fmt.Sprintf("%s=%d.%d.%d", envChild, os.Getpid(), time.Now().UnixNano(), children.Add(1))
		s.Env = append(s.Env[:len(s.Env):len(s.Env)], p.mark)
	}
	cmd.Env, cmd.Dir, cmd.ExtraFiles = s.Env, s.Dir, s.ExtraFiles
	if s.Stdin != nil {
		cmd.Stdin = s.Stdin
	}
	cmd.SysProcAttr = sysProcAttr(s.DeathSignal)
	if s.As != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: s.As.UID, Gid: s.As.GID, Groups: s.As.Groups}
	}
	var writers []*os.File
	attach := func(sink func([]byte)) (*os.File, error) {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		p.pipes = append(p.pipes, r)
		writers = append(writers, w)
		p.outputs.Add(1)
		go func() {
			defer p.outputs.Done()
			defer r.Close()
			ReadLines(r, sink)
		}()
		return w, nil
	}
	fail := func(err error) (*Process, error) {
		for _, w := range writers {
			w.Close()
		}
		p.outputs.Wait()
		return nil, err
	}
	if s.Stdout != nil {
		w, err := attach(s.Stdout)
		if err != nil {
			return fail(err)
		}
		cmd.Stdout, cmd.Stderr = w, w
	}
	if s.Stderr != nil {
		w, err := attach(s.Stderr)
		if err != nil {
			return fail(err)
		}
		cmd.Stderr = w
	}
	if err := cmd.Start(); err != nil {
		return fail(fmt.Errorf("start %s: %w", s.Path, err))
	}
	for _, w := range writers {
		w.Close()
	}
	p.cmd = cmd
	go p.wait()
	return p, nil
}

// wait follows the order of Airflow's subprocess hook: read the output to its
// end, then collect the exit status. A background process that keeps the pipe
// open therefore keeps the task running, until the group is ended.
func (p *Process) wait() {
	p.outputs.Wait()
	err := p.cmd.Wait()
	p.exit = exitOf(p.cmd.ProcessState, err)
	p.exit.Ended = p.ended.Load() != 0
	p.exit = p.exit.WithOOM(p.ooms)
	close(p.done)
}

// PID is the child's process id and that of its process group.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the child has ended and its output was read.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait waits for the end of the child.
func (p *Process) Wait() Exit {
	<-p.done
	return p.exit
}

// End sends SIGTERM to the group, SIGKILL when it has not ended after grace,
// and returns when the child was collected. It may be called by several
// goroutines at once.
func (p *Process) End(grace time.Duration) Exit {
	p.ended.Store(1)
	endGroup(p.PID(), p.done, grace)
	p.endEscaped()
	// A process that left the group may still hold the pipe: stop reading.
	select {
	case <-p.done:
	case <-time.After(2 * time.Second):
		for _, r := range p.pipes {
			r.Close()
		}
	}
	return p.Wait()
}

// children numbers the children of this process.
var children atomic.Int64

// endEscaped kills what left the group (setsid, daemon), by the mark that this
// child gave to its descendants. Where the system has no way to look they stay
// until the start of the next server.
func (p *Process) endEscaped() {
	if p.mark == "" {
		return
	}
	for _, pid := range marked(p.mark) {
		_ = syscall.Kill(pid, syscall.SIGKILL) // best effort: it may have ended
	}
}

func endGroup(pgid int, done <-chan struct{}, grace time.Duration) {
	if signalGroup(pgid, syscall.SIGTERM) == nil && grace > 0 {
		t := time.NewTimer(grace)
		defer t.Stop()
		select {
		case <-done:
		case <-t.C:
		}
	}
	// Also after the leader's end: others of its group may have ignored SIGTERM.
	_ = signalGroup(pgid, syscall.SIGKILL) // no such group: nothing is left
}

// EndGroup ends a process group that another process collects: SIGTERM, then
// SIGKILL when done was not closed within grace.
func EndGroup(pgid int, done <-chan struct{}, grace time.Duration) { endGroup(pgid, done, grace) }

// ExitOfStatus reads a wait status as waitpid gives it.
func ExitOfStatus(status uint32) Exit {
	ws := syscall.WaitStatus(status)
	if ws.Signaled() {
		return Exit{Code: -1, Signal: ws.Signal()}
	}
	return Exit{Code: ws.ExitStatus()}
}

// OOMKills counts the kernel's kills for memory in this cgroup so far; 0 where
// it cannot be known.
func OOMKills() int64 { return oomKills() }

// WithOOM sets OOM if the child was killed and the count of OOM kills has grown
// since before.
func (e Exit) WithOOM(before int64) Exit {
	if e.Signal == syscall.SIGKILL || e.Code == 128+int(syscall.SIGKILL) {
		e.OOM = oomKills() > before
	}
	return e
}

// Exit is how a child ended.
type Exit struct {
	Code   int            // exit code, -1 if it was ended by a signal
	Signal syscall.Signal // 0 if it exited
	OOM    bool           // the kernel killed for memory in this cgroup meanwhile
	Ended  bool           // End was called
	Err    error          // the status could not be had
}

// OK reports exit code 0.
func (e Exit) OK() bool { return e.Code == 0 && e.Signal == 0 && e.Err == nil }

// String says the cause in words, fit for the last line of a log.
func (e Exit) String() string {
	switch {
	case e.Err != nil:
		return "the process's exit status is unknown: " + e.Err.Error()
	case e.OOM:
		return "the process was killed because memory ran out (the kernel's OOM killer): give the task more memory or let it use less"
	case e.Signal != 0 && e.Ended:
		return fmt.Sprintf("the process was ended by signal %d (%s) on request", e.Signal, signalName(e.Signal))
	case e.Signal == syscall.SIGKILL:
		return "the process was killed by signal 9 (SIGKILL), which it did not get from Gust: often memory ran out, or somebody killed it"
	case e.Signal != 0:
		return fmt.Sprintf("the process was ended by signal %d (%s)", e.Signal, signalName(e.Signal))
	case e.Code == 128+int(syscall.SIGKILL):
		return "exit code 137: a command was killed by SIGKILL, often because memory ran out"
	case e.Code > 128 && e.Code < 128+65:
		return fmt.Sprintf("exit code %d: a command was ended by signal %d (%s)", e.Code, e.Code-128, signalName(syscall.Signal(e.Code-128)))
	}
	return fmt.Sprintf("exit code %d", e.Code)
}

func exitOf(st *os.ProcessState, err error) Exit {
	var ee *exec.ExitError
	if st == nil || err != nil && !errors.As(err, &ee) {
		return Exit{Code: -1, Err: err}
	}
	if ws, ok := st.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return Exit{Code: -1, Signal: ws.Signal()}
	}
	return Exit{Code: st.ExitCode()}
}

// ReadLines calls f for each line of r, without its end, until the end of r.
// Lines longer than MaxLine arrive in pieces.
func ReadLines(r io.Reader, f func(line []byte)) {
	br := bufio.NewReaderSize(r, 32<<10)
	var long []byte
	for {
		b, err := br.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			long = append(long, b...)
			if len(long) >= MaxLine {
				f(long)
				long = long[:0]
			}
			continue
		case err != nil:
			if len(long)+len(b) > 0 {
				f(append(long, b...))
			}
			return
		}
		b = b[:len(b)-1]
		if len(long) > 0 {
			long = append(long, b...)
			f(long)
			long = long[:0]
			continue
		}
		f(b)
	}
}

// CleanEnviron returns the environment that tasks may see: environ without what
// belongs to the control plane (GUST_…, Airflow's database, secrets and API
// settings) and without markers of an outer dispatch.
func CleanEnviron(environ []string) []string {
	out := make([]string, 0, len(environ)+4)
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		if !reserved(name) {
			out = append(out, kv)
		}
	}
	return out
}

var reservedPrefixes = []string{
	"GUST_", "AIRFLOW__DATABASE__", "AIRFLOW__SECRETS__", "AIRFLOW__API_AUTH__", "AIRFLOW__API__", "AIRFLOW__CELERY__",
	"AIRFLOW__SMTP__", "AIRFLOW__WEBSERVER__", "AIRFLOW__EXECUTION_API__",
	"AWS_LAMBDA_RUNTIME_API", "_X_AMZN_TRACE_ID", "AIRFLOW_CTX_",
}

func reserved(name string) bool {
	if strings.Contains(name, "FERNET_KEY") || strings.HasPrefix(name, "AIRFLOW__CORE__SQL_ALCHEMY") {
		return true
	}
	for _, p := range reservedPrefixes {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}
