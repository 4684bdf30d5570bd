package pyproc

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gustflow/gust/internal/worker/proc"
	"github.com/gustflow/gust/python"
)

// zygoteKey is what may share a zygote: the same interpreter and trust domain.
type zygoteKey struct{ python, trust string }

// zygote is an interpreter that forks a process per job.
type zygote struct {
	p       *proc.Process
	nth     int64 // of the children of this process
	control *net.UnixConn
	stderr  lockedBuffer

	writing sync.Mutex
	mu      sync.Mutex
	next    int64
	jobs    map[int64]*forked
	dead    error
	lastUse time.Time
}

type forked struct {
	pid     int
	started chan error
	done    chan struct{}
	outputs sync.WaitGroup
	exit    proc.Exit
	pipes   []*os.File
	ended   atomic.Bool
	ooms    int64 // before it started
}

func (h *Host) fork(key zygoteKey, dir string, r Run, peer *os.File, out, errs func([]byte)) (child, error) {
	z, err := h.zygote(key, dir)
	if err != nil {
		return nil, err
	}
	return z.fork(r, peer, out, errs)
}

// zygote returns the living zygote of key; the least recently used one makes
// room for a new one.
func (h *Host) zygote(key zygoteKey, dir string) (*zygote, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, errors.New("the worker is shutting down")
	}
	if z := h.zygotes[key]; z != nil {
		if z.alive() {
			return z, nil
		}
		delete(h.zygotes, key)
	}
	if len(h.zygotes) >= h.maxZygotes {
		var oldest zygoteKey
		var idle *zygote
		for k, z := range h.zygotes {
			if z.idle() && (idle == nil || z.lastUsed().Before(idle.lastUsed())) {
				oldest, idle = k, z
			}
		}
		if idle == nil {
			return nil, fmt.Errorf("all %d zygotes are busy with other bundles", h.maxZygotes)
		}
		delete(h.zygotes, oldest)
		go idle.close()
	}
	z, err := h.startZygote(key, dir)
	if err != nil {
		return nil, err
	}
	h.zygotes[key] = z
	return z, nil
}

func (h *Host) startZygote(key zygoteKey, dir string) (*zygote, error) {
	conn, peer, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer peer.Close()
	z := &zygote{control: conn.(*net.UnixConn), jobs: map[int64]*forked{}, lastUse: time.Now()}
	env := append(proc.CleanEnviron(os.Environ()), proc.EnvInstallation+"="+h.installation, proc.EnvDispatch+"=zygote", "PYTHONUNBUFFERED=1")
	if h.protect {
		env = append(env, "GUST_PROTECT=1")
	}
	z.nth = proc.Started() + 1
	z.p, err = proc.Start(proc.Spec{
		GroupOnly: true,
		Path:      key.python, Args: []string{filepath.Join(dir, python.Boot), "zygote", "3"}, Env: env, Dir: "/",
		ExtraFiles: []*os.File{peer}, Stdout: z.stderr.line, DeathSignal: syscall.SIGTERM,
	})
	if err != nil {
		conn.Close()
		return nil, err
	}
	go z.listen()
	return z, nil
}

// Zygote is a kept interpreter.
type Zygote struct {
	PID int
	// Nth is its place among the children that this process started, from 1 (see
	// proc.Started); exact if nothing else was being started.
	Nth int64
}

// Zygotes lists the living zygotes.
func (h *Host) Zygotes() []Zygote {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []Zygote
	for _, z := range h.zygotes {
		if z.alive() {
			out = append(out, Zygote{PID: z.p.PID(), Nth: z.nth})
		}
	}
	return out
}

func (z *zygote) alive() bool {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.dead == nil
}

func (z *zygote) idle() bool {
	z.mu.Lock()
	defer z.mu.Unlock()
	return len(z.jobs) == 0
}

func (z *zygote) lastUsed() time.Time {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.lastUse
}

func (z *zygote) close() {
	z.control.Close() // its end makes the zygote kill its children and exit
	select {
	case <-z.p.Done():
	case <-time.After(2 * time.Second):
		z.p.End(0)
	}
}

func (z *zygote) fork(r Run, peer *os.File, out, errs func([]byte)) (*forked, error) {
	f := &forked{started: make(chan error, 1), done: make(chan struct{}), ooms: proc.OOMKills()}
	var writers []*os.File
	defer func() {
		for _, w := range writers {
			w.Close()
		}
	}()
	for _, sink := range []func([]byte){out, errs} {
		rd, wr, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		writers = append(writers, wr)
		f.pipes = append(f.pipes, rd)
		f.outputs.Add(1)
		go func() {
			defer f.outputs.Done()
			defer rd.Close()
			proc.ReadLines(rd, sink)
		}()
	}
	env := make(map[string]string, len(r.Env))
	for _, kv := range r.Env {
		if k, v, ok := strings.Cut(kv, "="); ok {
			env[k] = v
		}
	}
	z.mu.Lock()
	if z.dead != nil {
		z.mu.Unlock()
		return nil, z.dead
	}
	z.next++
	id := z.next
	z.jobs[id] = f
	z.lastUse = time.Now()
	z.mu.Unlock()
	body, err := json.Marshal(map[string]any{"id": id, "env": env, "dir": r.Dir})
	if err != nil {
		return nil, err
	}
	msg := append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
	rights := syscall.UnixRights(int(peer.Fd()), int(writers[0].Fd()), int(writers[1].Fd()))
	z.writing.Lock()
	n, _, err := z.control.WriteMsgUnix(msg, rights, nil)
	if err == nil && n < len(msg) {
		_, err = z.control.Write(msg[n:])
	}
	z.writing.Unlock()
	if err == nil {
		err = <-f.started
	}
	if err != nil {
		z.mu.Lock()
		delete(z.jobs, id)
		z.mu.Unlock()
		return nil, err
	}
	return f, nil
}

// listen hands out what the zygote reports, until it ends.
func (z *zygote) listen() {
	for {
		b, err := readFrame(z.control)
		if err != nil {
			break
		}
		var m struct {
			ID    int64
			PID   int
			Exit  *uint32
			Error string
		}
		if json.Unmarshal(b, &m) != nil {
			break
		}
		z.mu.Lock()
		f := z.jobs[m.ID]
		if m.Exit != nil {
			delete(z.jobs, m.ID)
		}
		z.mu.Unlock()
		switch {
		case f == nil:
		case m.Error != "":
			f.started <- errors.New(m.Error)
		case m.Exit != nil:
			f.finish(proc.ExitOfStatus(*m.Exit))
		default:
			f.pid = m.PID
			f.started <- nil
		}
	}
	z.control.Close()
	exit := z.p.End(time.Second)
	err := fmt.Errorf("the Python zygote ended: %v: %s", exit, z.stderr.String())
	z.mu.Lock()
	z.dead = err
	jobs := z.jobs
	z.jobs = map[int64]*forked{}
	z.mu.Unlock()
	for _, f := range jobs {
		if f.pid != 0 {
			_ = syscall.Kill(-f.pid, syscall.SIGKILL) // it may have ended by itself
			f.finish(proc.Exit{Code: -1, Err: err})
			continue
		}
		f.started <- err
	}
}

func (f *forked) finish(e proc.Exit) {
	e = e.WithOOM(f.ooms)
	e.Ended = f.ended.Load()
	go func() {
		f.outputs.Wait()
		f.exit = e
		close(f.done)
	}()
}

func (f *forked) PID() int { return f.pid }

func (f *forked) Wait() proc.Exit {
	<-f.done
	return f.exit
}

func (f *forked) End(grace time.Duration) proc.Exit {
	f.ended.Store(true)
	proc.EndGroup(f.pid, f.done, grace)
	select {
	case <-f.done:
	case <-time.After(2 * time.Second):
		for _, r := range f.pipes {
			r.Close()
		}
	}
	return f.Wait()
}

// lockedBuffer keeps the last lines a zygote wrote itself.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) line(p []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.b.Len() > 8<<10 {
		l.b.Reset()
	}
	l.b.Write(p)
	l.b.WriteByte('\n')
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.TrimSpace(l.b.String())
}
