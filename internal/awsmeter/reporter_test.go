package awsmeter_test

import (
	"bytes"
	"testing"

	"github.com/gustflow/gust/internal/awsmeter"
)

func TestReporter(t *testing.T) {
	var out bytes.Buffer
	r := awsmeter.NewReporter("worker", &out, func(name string) string {
		return map[string]string{"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512"}[name]
	}, nil)
	for i := range 2 {
		out.Reset()
		end := r.Begin(70<<10, task)
		r.Meter.Record(awsmeter.Op{Service: "DynamoDB", Operation: "UpdateItem"}, awsmeter.Counts{Calls: 2, WriteUnits: 2}, task)
		end()
		l, ok := awsmeter.ParseLine(out.Bytes())
		if !ok || l.Function != "worker" || l.MemoryMB != 512 || l.Cold != (i == 0) || len(l.Usage) != 1 {
			t.Fatalf("invocation %d: %s", i, out.String())
		}
		if u := l.Usage[0]; u.Label() != task || u.WriteUnits != 2 || u.Invocations != 1 || u.SQS != 3 {
			t.Errorf("invocation %d: %+v", i, u)
		}
	}
	out.Reset()
	r.Begin(0)() // a tick
	if l, ok := awsmeter.ParseLine(out.Bytes()); !ok || len(l.Usage) != 1 || l.Usage[0].Invocations != 1 || l.Usage[0].SQS != 0 {
		t.Errorf("a tick: %s", out.String())
	}
	out.Reset()
	r.Begin(0, task)() // an asynchronous invocation, past the queue
	if l, ok := awsmeter.ParseLine(out.Bytes()); !ok || len(l.Usage) != 1 || l.Usage[0].Label() != task || l.Usage[0].SQS != 0 || l.Usage[0].Invocations != 1 {
		t.Errorf("past the queue: %s", out.String())
	}
	var none *awsmeter.Reporter
	none.Begin(1, task)()
}
