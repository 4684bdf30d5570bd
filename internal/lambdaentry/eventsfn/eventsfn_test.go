package eventsfn_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/lambdaentry/eventsfn"
	"github.com/gustflow/gust/internal/queue"
)

type outbox struct {
	sent []engine.Message
	err  error
}

func (o *outbox) Send(_ context.Context, ms []engine.Message) error {
	if o.err == nil {
		o.sent = append(o.sent, ms...)
	}
	return o.err
}

type queues struct {
	queue.Queues
	sent []queue.Outgoing
}

func (q *queues) Send(_ context.Context, url string, ms []queue.Outgoing) error {
	if url != "events" {
		return errors.New("another queue")
	}
	q.sent = append(q.sent, ms...)
	return nil
}

// TestBatch: one message that nobody understands does not hold up the others, and
// what could not be told is delivered again.
func TestBatch(t *testing.T) {
	record := func(body string) map[string]any {
		return map[string]any{"messageId": "m", "body": body, "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:x:1:dead"}
	}
	event, err := json.Marshal(map[string]any{"Records": []any{
		record("nonsense"),
		record(`{"key":{"dag_id":"d","run_id":"r","task_id":"t","map_index":-1},"dispatch_seq":4}`),
		record(`{"k":"dag","d":"d"}`),
	}})
	if err != nil {
		t.Fatal(err)
	}
	o, q, log := &outbox{}, &queues{}, &bytes.Buffer{}
	f := &eventsfn.Function{Outbox: o, Queues: q, EventsQueueURL: "events", Log: slog.New(slog.NewTextHandler(log, nil))}
	if err := f.Handle(context.Background(), event); err != nil {
		t.Fatal(err)
	}
	if len(o.sent) != 1 || o.sent[0].Kind != engine.MessageLost || o.sent[0].DispatchSeq != 4 || len(q.sent) != 1 || !strings.Contains(q.sent[0].Body, `"resent":1`) {
		t.Errorf("told %+v, sent again %+v", o.sent, q.sent)
	}
	if !strings.Contains(log.String(), "not understood") {
		t.Errorf("log: %s", log)
	}
	o.err = errors.New("away")
	if err := f.Handle(context.Background(), event); err == nil {
		t.Error("the failure to tell the scheduler is lost")
	}
}
