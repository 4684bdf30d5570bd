package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/worker"
)

// MessageKind says what a Message is about.
type MessageKind string

// The kinds of messages.
const (
	// MessageReport: the row of a dispatch holds a report, or says that the worker yielded.
	MessageReport MessageKind = "report"
	// MessageRun: a run is to be looked at: it was created or changed by another
	// process, a slot was set aside for it, its time has come.
	MessageRun MessageKind = "run"
	// MessageDag: a DAG's runs are to be planned. With a RunID that run is known to
	// exist, however far behind the indexes are.
	MessageDag MessageKind = "dag"
	// MessageDue: the DAGs of Dags are due: their runs are to be planned.
	MessageDue MessageKind = "due"
	// MessageSweep: a run's outstanding dispatches are to be checked.
	MessageSweep MessageKind = "sweep"
	// MessageFire: what a deferred instance waits for has happened.
	MessageFire MessageKind = "fire"
	// MessageCalled: a worker has carried out the pending callback Cause.
	MessageCalled MessageKind = "called"
	// MessageUncalled: the pending callback Cause was not wanted, its run being a success.
	MessageUncalled MessageKind = "uncalled"
	// MessageLost: a dispatch will not be run to its end, for Cause.
	MessageLost MessageKind = "lost"
)

// Message is what one invocation tells the scheduler: keys only, so that an old
// or doubled message can do no harm. It is JSON on the wire.
type Message struct {
	Kind   MessageKind    `json:"k"`
	DagID  airflow.DagID  `json:"d,omitempty"`
	RunID  airflow.RunID  `json:"r,omitempty"`
	TaskID airflow.TaskID `json:"t,omitempty"`
	// MapIndex is that of the instance, airflow.Unmapped for most; 0 without a TaskID.
	MapIndex    int    `json:"m,omitempty"`
	DispatchSeq uint32 `json:"s,omitempty"`
	// Wide says that the run has very many instances: reports on it are gathered
	// (gather.go). It changes who does the work, not what is done.
	Wide bool `json:"w,omitempty"`
	// At is when the message is meant to arrive; zero = at once.
	At time.Time `json:"at,omitzero"`
	// Dags are those of MessageDue, which has no DagID.
	Dags []airflow.DagID `json:"ds,omitempty"`
	// Try is how often what a MessageDag or MessageDue asks for has failed before.
	Try int `json:"n,omitempty"`
	// Cause explains MessageLost in logs; of MessageAsk, MessageCalled and MessageUncalled it is an id.
	Cause string `json:"c,omitempty"`
}

// Check reports what a message from outside lacks.
func (m Message) Check() error {
	switch m.Kind {
	case MessageReport, MessageFire, MessageLost, MessageAsk:
		if m.DagID == "" || m.RunID == "" || m.TaskID == "" || m.DispatchSeq == 0 {
			return airflow.Invalid("message", "a %q message needs d, r, t and s", m.Kind)
		}
	case MessageRun, MessageSweep, MessageCalled, MessageUncalled:
		if m.DagID == "" || m.RunID == "" {
			return airflow.Invalid("message", "a %q message needs d and r", m.Kind)
		}
	case MessageDag:
		if m.DagID == "" {
			return airflow.Invalid("message", "a %q message needs d", m.Kind)
		}
	case MessageDue:
		if len(m.Dags) == 0 || slices.Contains(m.Dags, "") {
			return airflow.Invalid("message", "a %q message needs ds, without empty ids", m.Kind)
		}
	default:
		return airflow.Invalid("message", "unknown kind %q", m.Kind)
	}
	return nil
}

// newer reports whether a message is of a kind that this version does not know: while
// a deploy replaces the scheduler both versions take messages. One without a kind is
// of no version.
func (m Message) newer() bool {
	switch m.Kind {
	case "", MessageReport, MessageRun, MessageDag, MessageDue, MessageSweep, MessageFire, MessageCalled, MessageUncalled, MessageLost, MessageAsk:
		return false
	}
	return true
}

func (m Message) run() store.RunKey { return store.RunKey{DagID: m.DagID, RunID: m.RunID} }

func (m Message) dispatch() worker.Dispatch {
	return worker.Dispatch{
		Key:         airflow.TaskInstanceKey{DagID: m.DagID, RunID: m.RunID, TaskID: m.TaskID, MapIndex: m.MapIndex},
		DispatchSeq: m.DispatchSeq,
	}
}

// ReportOf is the message that the row of a dispatch has news.
func ReportOf(d worker.Dispatch) Message {
	return Message{Kind: MessageReport, DagID: d.Key.DagID, RunID: d.Key.RunID, TaskID: d.Key.TaskID, MapIndex: d.Key.MapIndex, DispatchSeq: d.DispatchSeq, Wide: d.Offer.Wide}
}

// MaxDelay is how far ahead a message may be sent: what SQS takes.
const MaxDelay = 15 * time.Minute

// Outbox takes messages to the schedulers of an installation. Delivery is at
// least once and in any order.
type Outbox interface {
	// Send returns when all messages are durable, or an error if one may not be. At
	// is at most MaxDelay ahead.
	Send(ctx context.Context, ms []Message) error
}

// Delivery is a message as it arrives.
type Delivery struct {
	Message
	// ReceiveCount is 1 the first time; more say that an earlier invocation may
	// have died in the middle.
	ReceiveCount int
}

// announce sends messages from a process that does not decide (a worker, a
// tool). An error says that the scheduler may not hear of what was stored before
// the next sweep; who can repeat the call should.
func (e *Engine) announce(ctx context.Context, ms ...Message) error {
	if e.outbox == nil || len(ms) == 0 {
		return nil
	}
	if err := e.outbox.Send(ctx, ms); err != nil {
		return fmt.Errorf("%w: the scheduler could not be told: %w", airflow.ErrUnavailable, err)
	}
	return nil
}

// remote reports whether this engine hands everything on to schedulers elsewhere.
func (e *Engine) remote() bool { return e.passive && e.outbox != nil }

// sendAll is announce for effects: an error is logged and kept for Handle.
func (e *Engine) sendAll(ctx context.Context, ms ...Message) {
	if err := e.announce(ctx, ms...); err != nil {
		e.log.ErrorContext(ctx, "messages not sent", "count", len(ms), "err", err)
		e.noteFailure(err)
	}
}
