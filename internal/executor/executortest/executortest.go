// Package executortest is the suite that every executor of workers in processes,
// containers or machines of their own passes: submit, observe, adopt after a restart,
// cancel, output, credentials of one dispatch. An executor made outside of this
// repository is tested by a copy of shellexec's test with its own Harness.
//
// The suite plays the control plane. Workers are the test binary itself: TestMain
// calls Main first, which takes over when the binary is started as a worker.
package executortest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/executor"
	"github.com/gustflow/gust/internal/worker"
)

// Harness makes executors over one and the same world.
type Harness interface {
	// Start returns an executor as a process that has just started has it. Started
	// again without Close of the one before, that process has crashed. It runs workers
	// by executing os.Args[0] with the environment that world.Environ gives for a
	// dispatch, and the dispatch as JSON in GUST_DISPATCH.
	Start(t testing.TB, world *World) executor.Executor
}

// Environment variables of workers.
const (
	urlVariable      = "EXECUTORTEST_URL"
	tokenVariable    = "EXECUTORTEST_TOKEN"
	dispatchVariable = "GUST_DISPATCH"
	// secretVariable is set in the process of the executor and must not reach a worker.
	secretVariable = "EXECUTORTEST_SECRET_OF_THE_EXECUTOR"
)

// World is the control plane of a test.
type World struct {
	t   testing.TB
	url string

	mu     sync.Mutex
	tokens map[string]string // by dispatch
	events map[string][]string
	envs   map[string][]string // what the worker of a dispatch was given
}

// call is what workers say.
type call struct {
	Dispatch worker.Dispatch
	Token    string
	Event    string // claim, ended, terminated
	Environ  []string
}

func newWorld(t testing.TB) *World {
	t.Helper()
	w := &World{t: t, tokens: map[string]string{}, events: map[string][]string{}, envs: map[string][]string{}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.url = "http://" + l.Addr().String()
	srv := &http.Server{Handler: http.HandlerFunc(w.serve), ReadHeaderTimeout: 5 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		_ = srv.Close()
		<-done
	})
	return w
}

// Environ is the environment of a dispatch's worker: how to reach the control plane,
// and a credential for this dispatch alone.
func (w *World) Environ(d worker.Dispatch) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.tokens[d.String()] == "" {
		w.tokens[d.String()] = rand.Text()
	}
	return []string{urlVariable + "=" + w.url, tokenVariable + "=" + w.tokens[d.String()], "PATH=" + os.Getenv("PATH")}
}

func (w *World) serve(rw http.ResponseWriter, r *http.Request) {
	var c call
	if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	id := c.Dispatch.String()
	if c.Token == "" || w.tokens[id] != c.Token {
		w.events[id] = append(w.events[id], "denied")
		http.Error(rw, "this credential is not of this dispatch", http.StatusForbidden)
		return
	}
	if c.Event == "claim" && slices.Contains(w.events[id], "claim") {
		w.events[id] = append(w.events[id], "claimed again")
		http.Error(rw, "claimed before", http.StatusConflict)
		return
	}
	w.events[id] = append(w.events[id], c.Event)
	if c.Environ != nil {
		w.envs[id] = c.Environ
	}
}

func (w *World) seen(d worker.Dispatch) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.events[d.String()])
}

// Patience bounds every wait of the suite.
const Patience = 60 * time.Second

func (w *World) until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(Patience); !cond(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			w.mu.Lock()
			defer w.mu.Unlock()
			t.Fatalf("not in time: %s; seen: %v", what, w.events)
		}
	}
}

func (w *World) heard(t testing.TB, d worker.Dispatch, event string) {
	t.Helper()
	w.until(t, fmt.Sprintf("%s of %s", event, d), func() bool { return slices.Contains(w.seen(d), event) })
}

// Tasks of the suite.
const (
	quick = "quick" // claims, writes, ends
	long  = "long"  // claims, writes, runs until it is told to end
	deaf  = "deaf"  // does not heed SIGTERM
	thief = "thief" // claims another dispatch with its own credential
)

func dispatch(task string, seq uint32) worker.Dispatch {
	return worker.Dispatch{Key: airflow.TaskInstanceKey{DagID: "d", RunID: "manual__2024-01-01T00:00:00+00:00", TaskID: airflow.TaskID(task), MapIndex: airflow.Unmapped}, DispatchSeq: seq}
}

// Main runs a worker of the suite if this process is one, and does not return then.
func Main() {
	if os.Getenv(urlVariable) == "" {
		return
	}
	if err := work(); err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func work() error {
	var d worker.Dispatch
	if err := json.Unmarshal([]byte(os.Getenv(dispatchVariable)), &d); err != nil {
		return fmt.Errorf("%s: %w", dispatchVariable, err)
	}
	say := func(d worker.Dispatch, event string) error {
		b, err := json.Marshal(call{Dispatch: d, Token: os.Getenv(tokenVariable), Event: event, Environ: os.Environ()})
		if err != nil {
			return err
		}
		res, err := http.Post(os.Getenv(urlVariable), "application/json", bytes.NewReader(b))
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			text, _ := io.ReadAll(io.LimitReader(res.Body, 1000)) // for the message only
			return fmt.Errorf("%s: %s", res.Status, text)
		}
		return nil
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	if err := say(d, "claim"); err != nil {
		return err
	}
	fmt.Printf("worker of %s writes to stdout\n", d)
	fmt.Fprintf(os.Stderr, "worker of %s writes to stderr\n", d)
	switch d.Key.TaskID {
	case long:
		<-term
		return say(d, "terminated")
	case deaf:
		for range term {
			if err := say(d, "not listening"); err != nil {
				return err
			}
		}
	case thief:
		if err := say(dispatch("victim", 1), "claim"); err == nil {
			return errors.New("the credential of one dispatch claimed another")
		}
	}
	return say(d, "ended")
}

// Run tests an executor.
func Run(t *testing.T, h Harness) {
	t.Setenv(secretVariable, "must not reach a worker")
	ctx := context.Background()
	start := func(t *testing.T) (*World, executor.Executor) {
		w := newWorld(t)
		x := h.Start(t, w)
		t.Cleanup(x.Close)
		return w, x
	}
	submit := func(t *testing.T, x executor.Executor, ds ...worker.Dispatch) {
		t.Helper()
		if err := x.Submit(ctx, ds); err != nil {
			t.Fatal(err)
		}
	}

	t.Run("submit", func(t *testing.T) {
		w, x := start(t)
		if x.Name() == "" {
			t.Error("an executor without a name")
		}
		var ds []worker.Dispatch
		for i := range 8 {
			ds = append(ds, dispatch(quick, uint32(i+1)))
		}
		submit(t, x, ds...)
		for _, d := range ds {
			w.heard(t, d, "ended")
		}
	})

	t.Run("submitted again", func(t *testing.T) {
		w, x := start(t)
		d := dispatch(long, 1)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if err := x.Submit(ctx, []worker.Dispatch{d, d}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		w.heard(t, d, "claim")
		submit(t, x, d)
		x.Cancel(d, "the test is over")
		w.heard(t, d, "terminated")
		w.until(t, "the end", func() bool { return !x.Observe(d) })
		submit(t, x, d)
		other := dispatch(quick, 2) // a later dispatch of the instance is another one
		submit(t, x, other)
		w.heard(t, other, "ended")
		if got := w.seen(d); !slices.Equal(got, []string{"claim", "terminated"}) {
			t.Errorf("a dispatch that was submitted many times: %v", got)
		}
	})

	t.Run("observe", func(t *testing.T) {
		w, x := start(t)
		d := dispatch(long, 1)
		if x.Observe(d) {
			t.Error("observes what was never submitted")
		}
		submit(t, x, d)
		w.until(t, "it is observed", func() bool { return x.Observe(d) })
		w.heard(t, d, "claim")
		if x.Observe(dispatch(long, 2)) || x.Observe(dispatch(quick, 1)) {
			t.Error("observes another dispatch")
		}
		x.Cancel(d, "the test is over")
		w.until(t, "it is not observed after its end", func() bool { return !x.Observe(d) })
	})

	t.Run("cancel", func(t *testing.T) {
		w, x := start(t)
		a, b := dispatch(long, 1), dispatch(long, 2)
		submit(t, x, a, b)
		w.heard(t, a, "claim")
		w.heard(t, b, "claim")
		x.Cancel(a, "cleared by admin")
		w.heard(t, a, "terminated")
		x.Cancel(a, "once more")
		x.Cancel(dispatch(quick, 9), "never submitted")
		if !x.Observe(b) || slices.Contains(w.seen(b), "terminated") {
			t.Error("cancelling one dispatch ended another")
		}
		x.Cancel(b, "the test is over")
		w.heard(t, b, "terminated")
		stubborn := dispatch(deaf, 1)
		submit(t, x, stubborn)
		w.heard(t, stubborn, "claim")
		x.Cancel(stubborn, "cleared by admin")
		w.heard(t, stubborn, "not listening")
		w.until(t, "a worker that does not heed SIGTERM is ended", func() bool { return !x.Observe(stubborn) })
	})

	t.Run("credentials", func(t *testing.T) {
		w, x := start(t)
		w.Environ(dispatch("victim", 1)) // it has a credential
		a, b := dispatch(quick, 1), dispatch(thief, 1)
		submit(t, x, a, b)
		w.heard(t, a, "ended")
		w.heard(t, b, "ended")
		if got := w.seen(dispatch("victim", 1)); !slices.Equal(got, []string{"denied"}) {
			t.Errorf("the victim: %v", got)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, d := range []worker.Dispatch{a, b} {
			env := w.envs[d.String()]
			if slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, secretVariable) }) {
				t.Errorf("the worker of %s has a secret of the executor", d)
			}
			for id, token := range w.tokens {
				if has := slices.ContainsFunc(env, func(kv string) bool { return strings.Contains(kv, token) }); has != (id == d.String()) {
					t.Errorf("the worker of %s has the credential of %s: %v", d, id, has)
				}
			}
		}
	})

	t.Run("adopt", func(t *testing.T) {
		w, x := start(t)
		if _, ok := x.(executor.Adopter); !ok {
			t.Skip("its dispatches end with its process")
		}
		a, b, over := dispatch(long, 1), dispatch(long, 2), dispatch(quick, 1)
		submit(t, x, a, b, over)
		for _, d := range []worker.Dispatch{a, b} {
			w.heard(t, d, "claim")
		}
		w.heard(t, over, "ended")
		w.until(t, "the end of a quick one", func() bool { return !x.Observe(over) })
		again := h.Start(t, w) // the first one has crashed
		defer again.Close()
		adopted, err := again.(executor.Adopter).Adopt(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, d := range adopted {
			got = append(got, d.String())
		}
		slices.Sort(got)
		if !slices.Equal(got, []string{a.String(), b.String()}) {
			t.Fatalf("adopted %v, want %s and %s", got, a, b)
		}
		if !again.Observe(a) || again.Observe(over) {
			t.Error("an adopted dispatch is not observed, or one that has ended is")
		}
		submit(t, again, a, over)
		again.Cancel(a, "cleared by admin")
		w.heard(t, a, "terminated")
		w.until(t, "the end of the cancelled one", func() bool { return !again.Observe(a) })
		again.Close() // leaves what runs
		third := h.Start(t, w)
		defer third.Close()
		if adopted, err := third.(executor.Adopter).Adopt(ctx); err != nil || len(adopted) != 1 || adopted[0].String() != b.String() {
			t.Errorf("after Close: %v, %v", adopted, err)
		}
		third.Cancel(b, "the test is over")
		w.heard(t, b, "terminated")
		for _, d := range []worker.Dispatch{a, b, over} {
			if slices.Contains(w.seen(d), "claimed again") {
				t.Errorf("%s was started twice", d)
			}
		}
	})

	t.Run("output", func(t *testing.T) {
		w, x := start(t)
		l, ok := x.(executor.Logger)
		if !ok {
			t.Skip("it keeps no output")
		}
		d := dispatch(quick, 1)
		if _, err := l.Output(ctx, d); !errors.Is(err, airflow.ErrNotFound) {
			t.Errorf("output of a dispatch that was never submitted: %v", err)
		}
		submit(t, x, d)
		w.heard(t, d, "ended")
		r, err := l.Output(ctx, d)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		text, err := io.ReadAll(r)
		if err != nil || !strings.Contains(string(text), "writes to stdout") || !strings.Contains(string(text), "writes to stderr") {
			t.Errorf("%v: %q", err, text)
		}
	})

	t.Run("close", func(t *testing.T) {
		_, x := start(t)
		x.Close()
		if err := x.Submit(ctx, []worker.Dispatch{dispatch(quick, 1)}); err == nil {
			t.Error("a closed executor takes dispatches")
		}
		x.Close()
	})
}
