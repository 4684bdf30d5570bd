package awsmeter

import (
	"context"
	"sync"
	"time"
)

// Label says whom a call is for. The zero Label is for nobody in particular: ticks,
// lists, DAG files.
type Label struct {
	DagID, RunID, TaskID string
	// MapIndex counts with a TaskID only; -1 for most.
	MapIndex int
}

// Run returns the label of the run, without the task instance.
func (l Label) Run() Label { return Label{DagID: l.DagID, RunID: l.RunID} }

// Counts is what was used. Numbers have fractions where a call is shared.
type Counts struct {
	// Calls are requests that the service answered, Retries those among them that
	// repeated an earlier one; Throttled and Refused (a condition failed) those that
	// it did not carry out.
	Calls, Retries, Throttled, Refused float64
	// ReadUnits and WriteUnits are DynamoDB's, with indexes. EstimatedUnits is the
	// part of them that the service did not report: it bills refused writes and says
	// nothing.
	ReadUnits, WriteUnits, EstimatedUnits float64
	// Requests are what SQS bills: one per 64 KB of a request.
	Requests          float64
	BytesOut, BytesIn float64
	Time              time.Duration // summed
}

// Add adds d.
func (c *Counts) Add(d Counts) {
	c.Calls += d.Calls
	c.Retries += d.Retries
	c.Throttled += d.Throttled
	c.Refused += d.Refused
	c.ReadUnits += d.ReadUnits
	c.WriteUnits += d.WriteUnits
	c.EstimatedUnits += d.EstimatedUnits
	c.Requests += d.Requests
	c.BytesOut += d.BytesOut
	c.BytesIn += d.BytesIn
	c.Time += d.Time
}

func (c Counts) share(of int) Counts {
	if of <= 1 {
		return c
	}
	f := 1 / float64(of)
	return Counts{
		Calls: c.Calls * f, Retries: c.Retries * f, Throttled: c.Throttled * f, Refused: c.Refused * f, ReadUnits: c.ReadUnits * f, WriteUnits: c.WriteUnits * f,
		EstimatedUnits: c.EstimatedUnits * f, Requests: c.Requests * f, BytesOut: c.BytesOut * f, BytesIn: c.BytesIn * f, Time: time.Duration(float64(c.Time) * f),
	}
}

// Op names an operation: Service is the SDK's ("DynamoDB", "SQS"), Operation the
// API's ("UpdateItem").
type Op struct{ Service, Operation string }

// Key is what counts are kept by.
type Key struct {
	Label
	Op
}

// Meter counts. It is safe for concurrent use; a nil Meter counts nothing.
type Meter struct {
	// Labels finds out whom a call is for from its input; nil leaves that to the
	// context.
	Labels func(op Op, input any) []Label

	mu     sync.Mutex
	counts map[Key]*Counts
}

// New returns a meter that attributes calls by f, which may be nil.
func New(f func(op Op, input any) []Label) *Meter { return &Meter{Labels: f} }

type labelKey struct{}

// WithLabel attributes calls made with ctx; it wins over what their input says.
func WithLabel(ctx context.Context, l Label) context.Context {
	return context.WithValue(ctx, labelKey{}, l)
}

// LabelsOf returns whom a call is for; none if that is not known.
func (m *Meter) LabelsOf(ctx context.Context, op Op, input any) []Label {
	if l, ok := ctx.Value(labelKey{}).(Label); ok {
		return []Label{l}
	}
	if m.Labels != nil && input != nil {
		return m.Labels(op, input)
	}
	return nil
}

// Record adds counts, shared evenly between labels; none is the zero Label.
func (m *Meter) Record(op Op, c Counts, labels ...Label) {
	if m == nil {
		return
	}
	if len(labels) == 0 {
		labels = []Label{{}}
	}
	c = c.share(len(labels))
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.counts == nil {
		m.counts = map[Key]*Counts{}
	}
	for _, l := range labels {
		k := Key{l, op}
		if m.counts[k] == nil {
			m.counts[k] = &Counts{}
		}
		m.counts[k].Add(c)
	}
}

// Operations whose calls no client of this process makes.
var (
	opReceive = Op{"SQS", "ReceiveMessage"}
	opDelete  = Op{"SQS", "DeleteMessageBatch"}
	// OpInvocation counts this function's own invocations; Time is what is billed.
	OpInvocation = Op{"Lambda", "Invocation"}
)

// Delivered counts what an event source mapping paid for one batch: a receive and
// a delete. bytes is the size of the bodies; labels has one entry per message.
func (m *Meter) Delivered(bytes int, labels ...Label) {
	m.Record(opReceive, Counts{Calls: 1, Requests: Chunks(bytes), BytesIn: float64(bytes)}, labels...)
	m.Record(opDelete, Counts{Calls: 1, Requests: 1}, labels...)
}

// Invoked counts one invocation of this function.
func (m *Meter) Invoked(billed time.Duration, labels ...Label) {
	m.Record(OpInvocation, Counts{Calls: 1, Time: billed}, labels...)
}

// Take returns the counts since the last Take and starts anew.
func (m *Meter) Take() map[Key]Counts {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make(map[Key]Counts, len(m.counts))
	for k, c := range m.counts {
		out[k] = *c
	}
	m.counts = nil
	return out
}

// Chunks is how many requests SQS bills for one of n bytes.
func Chunks(n int) float64 { return float64(max(1, (n+(64<<10)-1)/(64<<10))) }
