package awsemu

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/gustflow/gust/internal/awsmeter"
	"github.com/gustflow/gust/internal/awsmeter/awslabel"
)

// Call is one request as the service saw it.
type Call struct {
	Function           string // "" outside of functions
	Invocation         int
	Service, Operation string
	Path               string // of its latency, where that depends on the request
	Error              string // code
	Start, End         time.Time
}

// Message is what became of a message.
type Message struct {
	Queue string
	ID    string
	Label awsmeter.Label
	Sent  time.Time // the sender's call began
	// Handled is when a handler was started with it, first.
	Handled    time.Time
	Invocation int
}

// Invocation is one run of a function.
type Invocation struct {
	Function   string
	ID, Env    int
	Cold       bool
	Start, End time.Time
}

// Trace is what happened. It is safe for concurrent use.
type Trace struct {
	mu          sync.Mutex
	start       time.Time
	Calls       []Call
	Messages    []*Message
	Invocations []*Invocation
	byID        map[string]*Message
	byInv       map[string]*Invocation
}

// Reset forgets what happened so far.
func (t *Trace) Reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.start, t.Calls, t.Messages, t.Invocations, t.byID, t.byInv = time.Now(), nil, nil, nil, nil, nil
}

func (t *Trace) call(c Call) {
	t.mu.Lock()
	t.Calls = append(t.Calls, c)
	t.mu.Unlock()
}

func (t *Trace) sent(queue, id, body string, at time.Time) {
	m := &Message{Queue: queue, ID: id, Label: awslabel.Message(body), Sent: at}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byID == nil {
		t.byID = map[string]*Message{}
	}
	t.byID[id] = m
	t.Messages = append(t.Messages, m)
}

func invKey(function string, id int) string { return fmt.Sprint(function, "/", id) }

func (t *Trace) invoked(function string, id, env int, cold bool, messages []string, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	inv := &Invocation{Function: function, ID: id, Env: env, Cold: cold, Start: at}
	t.Invocations = append(t.Invocations, inv)
	if t.byInv == nil {
		t.byInv = map[string]*Invocation{}
	}
	t.byInv[invKey(function, id)] = inv
	for _, m := range messages {
		if have := t.byID[m]; have != nil && have.Handled.IsZero() {
			have.Handled, have.Invocation = at, id
		}
	}
}

func (t *Trace) returned(function string, id int, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if inv := t.byInv[invKey(function, id)]; inv != nil {
		inv.End = at
	}
}

// Operations counts calls by function, service and operation: what two clouds must
// agree on for the same work.
func (t *Trace) Operations() map[string]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := map[string]int{}
	for _, c := range t.Calls {
		out[c.Function+" "+c.Service+"."+c.Operation]++
	}
	return out
}

// FormatOperations renders counts, one line each, sorted.
func FormatOperations(ops map[string]int) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(ops)) {
		fmt.Fprintf(&b, "%6d  %s\n", ops[name], name)
	}
	return b.String()
}

// Spread is a set of durations.
type Spread []time.Duration

// At returns the quantile u of the set, 0 of an empty one.
func (s Spread) At(u float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	c := slices.Clone(s)
	sort.Slice(c, func(i, j int) bool { return c[i] < c[j] })
	i := int(u * float64(len(c)))
	return c[min(i, len(c)-1)]
}

// String renders n, p50, p90, p99 and the longest in milliseconds.
func (s Spread) String() string {
	ms := func(d time.Duration) float64 { return float64(d) / 1e6 }
	return fmt.Sprintf("n=%d p50 %.1f ms, p90 %.1f ms, p99 %.1f ms, max %.1f ms", len(s), ms(s.At(0.5)), ms(s.At(0.9)), ms(s.At(0.99)), ms(s.At(1)))
}

// Sequences counts which calls invocations of a function make, in their order:
// "DynamoDB.BatchGetItem DynamoDB.PutItem SQS.SendMessageBatch" -> how often.
func (t *Trace) Sequences(function string) map[string]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	calls := slices.Clone(t.Calls)
	sort.SliceStable(calls, func(i, j int) bool { return calls[i].Start.Before(calls[j].Start) })
	by := map[int][]string{}
	for _, inv := range t.Invocations {
		if inv.Function == function {
			by[inv.ID] = nil
		}
	}
	for _, c := range calls {
		if c.Function == function {
			by[c.Invocation] = append(by[c.Invocation], c.Service+"."+c.Operation)
		}
	}
	out := map[string]int{}
	for _, ops := range by {
		out[strings.Join(ops, " ")]++
	}
	return out
}
