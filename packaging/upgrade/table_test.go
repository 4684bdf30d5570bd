package upgrade

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/dynamotest"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/engine/enginetest"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/worker"
)

var writeTable = flag.String("write-table", "", "write to this file what this version leaves in a table in the middle of runs; never replaces one")

// dump is what a deployment holds while functions are replaced.
type dump struct {
	Clock time.Time                    `json:"clock"`
	Items []map[string]json.RawMessage `json:"items"` // as DynamoDB's JSON has them
	// Bodies of messages on their way.
	Events     []json.RawMessage `json:"events"`
	Dispatches []json.RawMessage `json:"dispatches"`
	// Running were claimed by workers that go on.
	Running []json.RawMessage `json:"running"`
}

var cloudConfig = engine.Config{Parallelism: -1, DefaultPoolSlots: -1, HeartbeatTimeout: 3 * time.Minute}

// runsOfDump must all end in success.
var runsOfDump = []store.RunKey{
	{DagID: "chain", RunID: "finished"}, {DagID: "chain", RunID: "halfway"}, {DagID: "chain", RunID: "running"}, {DagID: "chain", RunID: "begun"},
	{DagID: "retry", RunID: "waiting"}, {DagID: "mapped", RunID: "wide"}, {DagID: "narrow", RunID: "one"}, {DagID: "narrow", RunID: "two"},
}

// pump delivers messages and hands dispatches to pick until nothing is due.
func pump(t *testing.T, h *enginetest.Harness, pick func(worker.Dispatch) *enginetest.Outcome) {
	t.Helper()
	for range 10_000 {
		ms, ds := h.Outbox.Take(h.Clock.Now()), h.Queue.Take()
		if len(ms)+len(ds) == 0 {
			return
		}
		var in []engine.Delivery
		for _, m := range ms {
			in = append(in, engine.Delivery{Message: m, ReceiveCount: 1})
		}
		if failed := h.Engine.Handle(t.Context(), in); len(failed) > 0 {
			t.Fatalf("messages failed: %v of %+v", failed, in)
		}
		for _, d := range ds {
			out := pick(d)
			if out == nil {
				continue
			}
			// A doubled or old dispatch is refused, as a worker would see it.
			if err := h.Run(t.Context(), d, *out); err != nil && !errors.Is(err, airflow.ErrSuperseded) {
				t.Fatalf("%s: %v", d, err)
			}
		}
	}
	t.Fatal("the engine does not come to rest")
}

func succeed(worker.Dispatch) *enginetest.Outcome {
	out := enginetest.Success([]int{1, 2})
	return &out
}

// midway leaves runs in every state that lasts.
func midway(t *testing.T, h *enginetest.Harness) (held, running []worker.Dispatch) {
	t.Helper()
	ctx := t.Context()
	if err := h.Store.PutPool(ctx, airflow.Pool{Name: "one_slot", Slots: 1}); err != nil {
		t.Fatal(err)
	}
	for _, d := range []enginetest.DAG{
		enginetest.Chain("chain", 3),
		{ID: "retry", Tasks: []enginetest.Task{{ID: "a", Fields: map[string]any{"retries": 2, "retry_delay": 60.0}}}},
		{ID: "mapped", Tasks: []enginetest.Task{{ID: "a"}, {ID: "b", ExpandOver: "a"}}},
		{ID: "narrow", Tasks: []enginetest.Task{{ID: "a", Fields: map[string]any{"pool": "one_slot"}}, {ID: "b", Fields: map[string]any{"pool": "one_slot"}}}},
	} {
		if _, err := h.Register(ctx, d); err != nil {
			t.Fatal(err)
		}
	}
	start := func(dag, run string) {
		if _, err := h.Trigger(ctx, dag, run); err != nil {
			t.Fatal(err)
		}
		h.Clock.Advance(time.Second)
	}
	hold := func(d worker.Dispatch) *enginetest.Outcome { held = append(held, d); return nil }

	start("chain", "finished")
	pump(t, h, succeed)

	start("retry", "waiting") // its timer is on its way
	pump(t, h, func(worker.Dispatch) *enginetest.Outcome { out := enginetest.Fail(); return &out })

	start("mapped", "wide") // one of two instances done
	first := true
	pump(t, h, func(d worker.Dispatch) *enginetest.Outcome {
		if d.Key.TaskID == "b" && !first {
			return hold(d)
		}
		first = first && d.Key.TaskID != "b"
		return succeed(d)
	})

	start("narrow", "one") // holds the pool's slot, another run waits for it
	start("narrow", "two")
	pump(t, h, hold)

	start("chain", "running") // a worker is at it
	pump(t, h, func(d worker.Dispatch) *enginetest.Outcome {
		if _, err := h.Backend.Claim(ctx, d, h.Who); err != nil {
			t.Fatal(err)
		}
		running = append(running, d)
		return nil
	})

	start("chain", "halfway") // the report is stored, its message on its way
	for done := false; !done; {
		ms := h.Outbox.Take(h.Clock.Now())
		for _, m := range ms {
			h.Engine.Handle(ctx, []engine.Delivery{{Message: m, ReceiveCount: 1}})
		}
		for _, d := range h.Queue.Take() {
			passive := h.NewEngine(true) // as a worker's function has
			b := engine.NewBackend(passive, nil, nil, nil)
			if _, err := b.Claim(ctx, d, h.Who); err != nil {
				t.Fatal(err)
			}
			if err := b.Finish(ctx, d, &worker.Report{Outcome: worker.OutcomeSuccess, EndDate: h.Clock.Now()}); err != nil {
				t.Fatal(err)
			}
			done = true
		}
	}
	start("chain", "begun") // created; nothing has looked at it but who made it
	held = append(held, h.Queue.Take()...)
	return held, running
}

func writeDump(t *testing.T, to string) {
	t.Helper()
	if _, err := os.Stat(to); err == nil {
		t.Fatalf("%s is there: what a version wrote does not change", to)
	}
	client := dynamotest.Start(t)
	table := dynamotest.Table(t, client)
	h := enginetest.NewShared(dynamotest.OpenTable(t, client, table), cloudConfig, nil)
	defer h.Engine.Close()
	held, running := midway(t, h)
	d := dump{Clock: h.Clock.Now(), Dispatches: encode(t, held), Running: encode(t, running), Events: encode(t, h.Outbox.Waiting)}
	pages := dynamodb.NewScanPaginator(client, &dynamodb.ScanInput{TableName: &table, ConsistentRead: aws.Bool(true)})
	for pages.HasMorePages() {
		p, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, it := range p.Items {
			out := map[string]json.RawMessage{}
			for n, v := range it {
				out[n] = attribute(t, n, v)
			}
			d.Items = append(d.Items, out)
		}
	}
	slices.SortFunc(d.Items, func(a, b map[string]json.RawMessage) int {
		return strings.Compare(string(a["pk"])+string(a["sk"]), string(b["pk"])+string(b["sk"]))
	})
	var b strings.Builder // an item a line
	fmt.Fprintf(&b, "{\"clock\":%s,\n\"events\":%s,\n\"dispatches\":%s,\n\"running\":%s,\n\"items\":[\n", text(t, d.Clock), text(t, d.Events), text(t, d.Dispatches), text(t, d.Running))
	for i, it := range d.Items {
		b.WriteString(text(t, it))
		if i < len(d.Items)-1 {
			b.WriteByte(',')
		}
		b.WriteByte('\n')
	}
	b.WriteString("]}\n")
	if err := os.WriteFile(to, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func text(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func encode[T any](t *testing.T, vs []T) (out []json.RawMessage) {
	t.Helper()
	for _, v := range vs {
		out = append(out, json.RawMessage(text(t, v)))
	}
	return out
}

// attribute is DynamoDB's JSON of a value.
func attribute(t *testing.T, name string, v types.AttributeValue) json.RawMessage {
	t.Helper()
	switch v := v.(type) {
	case *types.AttributeValueMemberS:
		return json.RawMessage(text(t, map[string]string{"S": v.Value}))
	case *types.AttributeValueMemberN:
		return json.RawMessage(text(t, map[string]string{"N": v.Value}))
	case *types.AttributeValueMemberBOOL:
		return json.RawMessage(text(t, map[string]bool{"BOOL": v.Value}))
	case *types.AttributeValueMemberB:
		return json.RawMessage(text(t, map[string][]byte{"B": v.Value}))
	}
	t.Fatalf("attribute %s is a %T: teach this test to keep it", name, v)
	return nil
}

func value(t *testing.T, raw json.RawMessage) types.AttributeValue {
	t.Helper()
	var v struct {
		S, N *string
		BOOL *bool
		B    []byte
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	switch {
	case v.S != nil:
		return &types.AttributeValueMemberS{Value: *v.S}
	case v.N != nil:
		return &types.AttributeValueMemberN{Value: *v.N}
	case v.BOOL != nil:
		return &types.AttributeValueMemberBOOL{Value: *v.BOOL}
	}
	return &types.AttributeValueMemberB{Value: v.B}
}

// TestStoredTable deploys this version on tables that earlier ones left in the
// middle of runs.
func TestStoredTable(t *testing.T) {
	if *writeTable != "" {
		writeDump(t, *writeTable)
		return
	}
	files, err := filepath.Glob("testdata/table-*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no tables in testdata: %v", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".json"), func(t *testing.T) { goOn(t, f) })
	}
}

func goOn(t *testing.T, file string) {
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var d dump
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	if len(d.Items) == 0 || len(d.Events) == 0 || len(d.Dispatches) == 0 || len(d.Running) == 0 {
		t.Fatalf("a dump without everything: %d items, %d events, %d dispatches, %d running", len(d.Items), len(d.Events), len(d.Dispatches), len(d.Running))
	}
	client := dynamotest.Start(t)
	table := dynamotest.Table(t, client)
	for _, it := range d.Items {
		item := map[string]types.AttributeValue{}
		for n, raw := range it {
			item[n] = value(t, raw)
		}
		if _, err := client.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: &table, Item: item}); err != nil {
			t.Fatal(err)
		}
	}
	var driver kv.Driver = dynamotest.OpenTable(t, client, table)
	h := enginetest.NewShared(driver, cloudConfig, nil)
	defer h.Engine.Close()
	h.Clock.Set(d.Clock.Add(2 * time.Second))
	for _, raw := range d.Events {
		var m engine.Message
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatal(err)
		}
		if err := m.Check(); err != nil {
			t.Fatalf("a message of the earlier version: %v", err)
		}
		h.Outbox.Waiting = append(h.Outbox.Waiting, m)
	}
	for _, raw := range d.Dispatches {
		var x worker.Dispatch
		if err := json.Unmarshal(raw, &x); err != nil {
			t.Fatal(err)
		}
		h.Queue.Waiting = append(h.Queue.Waiting, x)
	}
	// The worker that runs is still the earlier version; it reports into the row,
	// which is what Finish writes, too.
	for _, raw := range d.Running {
		var x worker.Dispatch
		if err := json.Unmarshal(raw, &x); err != nil {
			t.Fatal(err)
		}
		if err := h.Backend.Finish(t.Context(), x, &worker.Report{Outcome: worker.OutcomeSuccess, EndDate: h.Clock.Now()}); err != nil {
			t.Fatalf("%s, claimed by the earlier version: %v", x, err)
		}
	}
	// Minutes pass: ticks, timers.
	for range 10 {
		if err := h.Engine.TickServerless(t.Context()); err != nil {
			t.Fatal(err)
		}
		pump(t, h, succeed)
		h.Clock.Advance(time.Minute)
	}
	for _, k := range runsOfDump {
		state, tasks, err := h.States(t.Context(), k)
		if err != nil || state != airflow.RunSuccess {
			t.Errorf("%s is %s: %v %v", k, state, tasks, err)
		}
	}
}

// TestTableGoesBack is the way back: this version leaves a table in the middle of
// runs, and the engine of the version before goes on with it.
func TestTableGoesBack(t *testing.T) {
	dir := earlierSources(t)
	dynamotest.Start(t) // or skip
	for _, err := range []error{
		os.RemoveAll(filepath.Join(dir, "packaging", "upgrade")),
		os.MkdirAll(filepath.Join(dir, "packaging", "upgrade", "testdata"), 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"table_test.go", "earlier_test.go"} {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "packaging", "upgrade", f), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	writeDump(t, filepath.Join(dir, "packaging", "upgrade", "testdata", "table-now.json"))
	// -trimpath: what is compiled is kept, whatever the folder is called.
	cmd := exec.Command("go", "test", "-trimpath", "-count=1", "-run", "^TestStoredTable$", "-v", "./packaging/upgrade")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestStoredTable/table-now") {
		t.Fatalf("the version before does not go on with what this one wrote: %v\n%s", err, out)
	}
}
