package observe

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/observe/otlpwire"
)

const (
	// maxSpans bounds what waits for a collector that does not answer.
	maxSpans = 16384
	// spanBatch is how many spans one export takes, as OpenTelemetry's SDKs have it.
	spanBatch = 512
	// spanDelay is how long a span waits for others.
	spanDelay = 5 * time.Second
)

// otlpTraces makes a trace of every run: dag_run.<dag_id>, below it
// task_run.<task_id> of every try, below that worker.<task_id> for the time that a
// worker had it.
//
// Ids are derived from what identifies run and try: a scheduler that knows nothing
// of the one before it continues the trace, and a span sent twice is the same span.
type otlpTraces struct {
	o       OTLP
	log     *slog.Logger
	spans   []otlpwire.Span
	next    time.Time
	backoff time.Duration
	failed  bool
	lost    bool
}

func newOTLPTraces(o OTLP, log *slog.Logger) *otlpTraces { return &otlpTraces{o: o, log: log} }

func (t *otlpTraces) name() string     { return "otlp traces" }
func (t *otlpTraces) samples([]Sample) {}

// traceID identifies a run: one that is cleared gets a new trace, as its tries and
// dates are new.
func traceID(r airflow.DagRun) []byte {
	h := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%d\x00%d", r.DagID, r.RunID, r.RunAfter.UnixMicro(), r.ClearNumber))
	return h[:16]
}

func spanID(trace []byte, what string) []byte {
	h := sha256.Sum256(append(append([]byte{}, trace...), what...))
	if binary.BigEndian.Uint64(h[:8]) == 0 {
		h[0] = 1 // zeros are no id
	}
	return h[:8]
}

func (t *otlpTraces) change(c engine.Change) {
	trace := traceID(c.Run)
	root := spanID(trace, "dag_run")
	for _, tc := range c.Tasks {
		if tc.From == airflow.TIRunning && (tc.To.Finished() && tc.To != airflow.TIRemoved || tc.To == airflow.TIUpForRetry) {
			t.task(c, tc, trace, root)
		}
	}
	if c.From != c.Run.State && c.Run.State.Finished() {
		t.add(runSpan(c, trace, root))
	}
	if len(t.spans) >= spanBatch && t.backoff == 0 {
		t.next = time.Time{}
	}
}

func runSpan(c engine.Change, trace, id []byte) otlpwire.Span {
	r := c.Run
	tags := []Tag{
		{"airflow.category", "DAG runs"}, {"airflow.dag_id", string(r.DagID)}, {"airflow.dag_run.run_id", string(r.RunID)},
		{"airflow.dag_run.run_type", string(r.RunType)}, {"airflow.dag_run.state", string(r.State)},
	}
	at := func(key string, d *time.Time) {
		if d != nil {
			tags = append(tags, Tag{key, d.UTC().Format("2006-01-02 15:04:05.999999-07:00")})
		}
	}
	at("airflow.dag_run.start_date", r.StartDate)
	at("airflow.dag_run.end_date", r.EndDate)
	at("airflow.dag_run.queued_at", r.QueuedAt)
	at("airflow.dag_run.logical_date", r.LogicalDate)
	start, end := c.At, c.At
	if r.QueuedAt != nil {
		start = *r.QueuedAt
	} else if r.StartDate != nil {
		start = *r.StartDate
	}
	if r.EndDate != nil {
		end = *r.EndDate
	}
	s := span(trace, id, nil, "dag_run."+string(r.DagID), start, end, r.State == airflow.RunSuccess)
	s.Attributes = attributes(tags)
	return s
}

func (t *otlpTraces) task(c engine.Change, tc engine.TaskChange, trace, root []byte) {
	name := string(tc.TaskID)
	if tc.MapIndex >= 0 {
		name += "[" + strconv.Itoa(tc.MapIndex) + "]"
	}
	try := name + "\x00" + strconv.Itoa(tc.TryNumber)
	end := tc.EndDate
	if end.IsZero() {
		end = c.At
	}
	begin := end
	if !tc.StartDate.IsZero() {
		begin = tc.StartDate
	}
	queued := begin
	if !tc.QueuedWhen.IsZero() && tc.QueuedWhen.Before(begin) {
		queued = tc.QueuedWhen
	}
	attrs := append(attributes([]Tag{
		{"airflow.dag_id", string(tc.DagID)}, {"airflow.task_id", string(tc.TaskID)}, {"airflow.dag_run.run_id", string(tc.RunID)},
	}), number64("airflow.task_instance.try_number", int64(tc.TryNumber)), number64("airflow.task_instance.map_index", int64(tc.MapIndex)))
	ok := tc.To == airflow.TISuccess
	s := span(trace, spanID(trace, "task_run\x00"+try), root, "task_run."+name, queued, end, ok)
	s.Attributes = append(append([]otlpwire.KeyValue{}, attrs...), attributes([]Tag{
		{"airflow.task_instance.state", tc.To.String()}, {"airflow.task_instance.operator", tc.Operator}, {"airflow.task_instance.queue", tc.Queue},
	})...)
	t.add(s)
	if tc.StartDate.IsZero() {
		return
	}
	w := span(trace, spanID(trace, "worker\x00"+try), s.SpanID, "worker."+name, begin, end, ok)
	w.Attributes = attrs
	t.add(w)
}

func number64(key string, n int64) otlpwire.KeyValue {
	return otlpwire.KeyValue{Key: key, Number: true, Int: n}
}

func span(trace, id, parent []byte, name string, start, end time.Time, ok bool) otlpwire.Span {
	if end.Before(start) { // of two clocks
		end = start
	}
	return otlpwire.Span{
		TraceID: trace, SpanID: id, ParentSpanID: parent, Name: name, Start: uint64(start.UnixNano()), End: uint64(end.UnixNano()), Failed: !ok,
	}
}

func (t *otlpTraces) add(s otlpwire.Span) {
	if len(t.spans) >= maxSpans {
		if !t.lost {
			t.lost = true
			t.log.Warn("the collector takes no spans: some are lost", "exporter", t.name())
		}
		return
	}
	if len(t.spans) == 0 && t.backoff == 0 {
		t.next = time.Now().Add(spanDelay)
	}
	t.spans = append(t.spans, s)
}

func (t *otlpTraces) idle(ctx context.Context) {
	if len(t.spans) > 0 && !time.Now().Before(t.next) {
		t.flush(ctx)
	}
}

func (t *otlpTraces) flush(ctx context.Context) {
	for len(t.spans) > 0 {
		n := min(len(t.spans), spanBatch)
		err := t.o.post(ctx, otlpwire.Traces(t.o.source(), t.spans[:n]))
		if err != nil {
			if !t.failed {
				t.failed = true
				t.log.Warn("spans not exported", "exporter", t.name(), "err", err)
			}
			if _, refused := err.(errRefused); !refused {
				t.backoff = min(max(2*t.backoff, spanDelay), 2*time.Minute)
				t.next = time.Now().Add(t.backoff)
				return
			}
		} else {
			t.failed, t.lost, t.backoff = false, false, 0
		}
		t.spans = append(t.spans[:0:0], t.spans[n:]...)
	}
}

func (t *otlpTraces) close() {}
