package stacks_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gustflow/gust/infra/cfn"
	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/engine/enginetest"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/store/kv"
	"github.com/gustflow/gust/internal/store/kv/memkv"
	"github.com/gustflow/gust/internal/worker"
)

// guarded is a driver that a role stands before: a call that the role's policies
// do not allow is refused, as DynamoDB would. Emulators do not do that.
type guarded struct {
	kv.Driver
	role  *cfn.Role
	table string // ARN

	mu     sync.Mutex
	denied map[string]bool
	used   map[string]bool // kinds of access that were allowed
}

func newGuarded(d kv.Driver, role *cfn.Role, table string) *guarded {
	return &guarded{Driver: d, role: role, table: table, denied: map[string]bool{}, used: map[string]bool{}}
}

// kind is the first segment of a partition key.
func kind(pk string) string { k, _, _ := strings.Cut(pk, "#"); return k }

func (g *guarded) check(action string, index kv.IndexName, pks ...string) error {
	resource := g.table
	if index != "" {
		resource += "/index/" + string(index)
	}
	ok, err := g.role.Allows(cfn.Request{Action: "dynamodb:" + action, Resource: resource, Context: map[string][]string{"dynamodb:LeadingKeys": pks}})
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, pk := range pks {
		what := action + " " + kind(pk)
		if index != "" {
			what = "Query " + string(index) + " " + pk
		}
		if ok {
			g.used[what] = true
		} else {
			g.denied[what] = true
		}
	}
	if !ok {
		return fmt.Errorf("AccessDeniedException: role %s is not authorized to perform dynamodb:%s on %s %v", g.role.ID, action, resource, pks)
	}
	return nil
}

func (g *guarded) Get(ctx context.Context, key kv.Key, consistent bool) (kv.Item, error) {
	if err := g.check("GetItem", "", key.PK); err != nil {
		return kv.Item{}, err
	}
	return g.Driver.Get(ctx, key, consistent)
}

func (g *guarded) BatchGet(ctx context.Context, keys []kv.Key, consistent bool) (map[kv.Key]kv.Item, error) {
	var pks []string
	for _, k := range keys {
		pks = append(pks, k.PK)
	}
	if len(pks) > 0 {
		if err := g.check("BatchGetItem", "", pks...); err != nil {
			return nil, err
		}
	}
	return g.Driver.BatchGet(ctx, keys, consistent)
}

func (g *guarded) Query(ctx context.Context, q kv.Query) (kv.Page, error) {
	if err := g.check("Query", q.Index, q.PK); err != nil {
		return kv.Page{}, err
	}
	return g.Driver.Query(ctx, q)
}

var opActions = map[kv.OpKind]string{kv.OpPut: "PutItem", kv.OpUpdate: "UpdateItem", kv.OpDelete: "DeleteItem", kv.OpCheck: "ConditionCheckItem"}

func (g *guarded) checkOp(op kv.Op) error {
	key := op.Key
	if key == (kv.Key{}) {
		key = op.Item.Key
	}
	return g.check(opActions[op.Kind], "", key.PK)
}

func (g *guarded) Write(ctx context.Context, op kv.Op) error {
	if err := g.checkOp(op); err != nil {
		return err
	}
	return g.Driver.Write(ctx, op)
}

func (g *guarded) Transact(ctx context.Context, token string, ops []kv.Op) error {
	for _, op := range ops {
		if err := g.checkOp(op); err != nil {
			return err
		}
	}
	return g.Driver.Transact(ctx, token, ops)
}

func (g *guarded) list(m map[string]bool) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := []string{}
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

// plain stands for the sealer: what is sealed is not the point here.
type plain struct{}

func (plain) Seal(p, _ []byte) ([]byte, error) { return p, nil }
func (plain) Open(c, _ []byte) ([]byte, error) { return c, nil }

// played is a deployment whose engine and worker stand behind their real roles.
type played struct {
	t         *testing.T
	h         *enginetest.Harness
	scheduler *guarded
	worker    *guarded
	backend   *engine.Backend
	// bare is the backend of a worker that does not ask, behind a role like worker's.
	bare *engine.Backend
}

func play(t *testing.T, d deployment, worker string) *played {
	t.Helper()
	role := func(function string) *cfn.Role {
		r, err := d.control.RoleOf(function)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	table := "arn:aws:dynamodb:" + cfn.Region + ":" + cfn.Account + ":table/" + d.cfg.Prefix()
	mem := memkv.New(memkv.Options{Schema: kv.DefaultSchema()})
	p := &played{t: t, scheduler: newGuarded(mem, role(d.cfg.FunctionName("scheduler")), table), worker: newGuarded(mem, role(d.cfg.WorkerName(worker)), table)}
	p.h = enginetest.NewShared(p.scheduler, engine.Config{DefaultPoolSlots: -1}, slog.New(slog.DiscardHandler))
	backend := func(g *guarded) *engine.Backend {
		return engine.NewBackend(engine.New(engine.Options{Store: store.New(g, plain{}), Passive: true, Outbox: p.h.Outbox, Config: p.h.Config, Log: p.h.Log, Now: p.h.Clock.Now}), nil, nil, nil)
	}
	p.backend = backend(p.worker).AskScheduler()
	p.bare = backend(newGuarded(mem, p.worker.role, table))
	p.h.Backend = p.backend
	return p
}

// deliver gives the scheduler its messages, each in an invocation of its own.
func (p *played) deliver() {
	p.t.Helper()
	for range 50 {
		if !p.deliverDue() {
			return
		}
	}
	p.t.Fatal("messages without end")
}

// deliverDue is deliver without the messages that come of it. It returns whether
// there were any.
func (p *played) deliverDue() bool {
	p.t.Helper()
	ms := p.h.Outbox.Take(p.h.Clock.Now())
	for _, m := range ms {
		if failed := p.h.NewEngine(false).Handle(context.Background(), []engine.Delivery{{Message: m, ReceiveCount: 1}}); len(failed) > 0 {
			p.t.Fatalf("the scheduler failed on %+v; denied: %v", m, p.scheduler.list(p.scheduler.denied))
		}
	}
	return len(ms) > 0
}

// answered calls ask, which waits for the scheduler, while the scheduler gets its
// messages.
func (p *played) answered(ask func() error) error {
	p.t.Helper()
	done := make(chan error, 1)
	go func() { done <- ask() }()
	for {
		select {
		case err := <-done:
			return err
		case <-time.After(time.Millisecond):
			p.deliverDue()
		}
	}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// TestRightsSufficeForTheEngine runs DAGs with the scheduler and the worker behind
// the roles of the template: what they need is allowed, and nothing is asked for
// that is not. Runs and variables a worker gets by asking the scheduler; to write
// them itself it is refused.
func TestRightsSufficeForTheEngine(t *testing.T) {
	ctx := context.Background()
	for _, variant := range []string{"dev", "prod", "prod-ecs"} {
		t.Run(variant, func(t *testing.T) {
			p := play(t, synth(t, variant), "default")
			h := p.h
			if err := h.Store.PutPool(ctx, airflow.Pool{Name: "few", Slots: 1}); err != nil {
				t.Fatal(err)
			}
			for _, dag := range []enginetest.DAG{
				{ID: "consumer", Assets: []string{"table"}, Tasks: []enginetest.Task{{ID: "use"}}},
				{ID: "victim", Tasks: []enginetest.Task{{ID: "nothing", Empty: true}}},
				{ID: "nightly", Cron: "* * * * *", Tasks: []enginetest.Task{{ID: "one"}}},
				{ID: "etl", Tasks: []enginetest.Task{
					{ID: "extract", Outlets: []string{"table"}},
					{ID: "each", ExpandOver: "extract"},
					{ID: "load", Upstream: []string{"each"}, Fields: map[string]any{"pool": "few", "retries": 1.0}},
				}},
			} {
				must[airflow.DagModel](t)(h.Register(ctx, dag))
			}
			if err := store.New(p.worker.Driver, plain{}).PutVariable(ctx, airflow.Variable{Key: "v", Value: "1"}); err != nil {
				t.Fatal(err)
			}
			for _, run := range []store.RunKey{{DagID: "victim", RunID: "v1"}, {DagID: "etl", RunID: "r0"}, {DagID: "etl", RunID: "r1"}} {
				h.Clock.Advance(time.Minute)
				now := h.Clock.Now()
				must[airflow.DagRun](t)(h.NewEngine(true).Trigger(ctx, engine.TriggerOptions{DagID: run.DagID, RunID: run.RunID, LogicalDate: &now, TriggeredBy: airflow.TriggeredByTest}))
				p.deliver()
			}
			if err := h.NewEngine(false).TickServerless(ctx); err != nil {
				t.Errorf("tick: %v", err)
			}
			ran := map[string]int{}
			for range 40 {
				p.deliver()
				ds := h.Queue.Take()
				if len(ds) == 0 {
					at, ok := h.Outbox.Next()
					if !ok {
						break
					}
					h.Clock.Set(at)
				}
				for _, d := range ds {
					tc, err := p.backend.Claim(ctx, d, h.Who)
					if err != nil {
						t.Fatalf("claim %s: %v", d, err)
					}
					name := string(d.Key.RunID) + " " + string(d.Key.TaskID)
					ran[name]++
					p.useBackend(d, tc)
					if len(ran) == 1 && ran[name] == 1 {
						p.refuseBare(d)
					}
					out := enginetest.Success(nil)
					switch {
					case d.Key.TaskID == "extract":
						out = enginetest.Success([]int{1, 2})
					case d.Key.TaskID == "load" && ran[name] == 1:
						out = enginetest.Fail()
					}
					if err := h.Finish(ctx, d, tc, out); err != nil {
						t.Fatalf("finish %s: %v", d, err)
					}
				}
				h.Clock.Advance(time.Second)
			}
			if ran["r1 extract"] != 1 || ran["r1 each"] != 2 || ran["r1 load"] != 2 || len(ran) < 7 {
				t.Errorf("ran %v: the DAGs did not get to their ends", ran)
			}
			for _, id := range []airflow.RunID{"r0", "r1"} {
				if state, tis, err := h.States(ctx, store.RunKey{DagID: "etl", RunID: id}); err != nil || state != airflow.RunSuccess {
					t.Errorf("run %s is %s, %v, %v", id, state, tis, err)
				}
			}
			if err := h.NewEngine(false).TickServerless(ctx); err != nil {
				t.Errorf("tick: %v", err)
			}
			if denied := p.scheduler.list(p.scheduler.denied); len(denied) > 0 {
				t.Errorf("the scheduler's role does not allow what it needs: %s", strings.Join(denied, ", "))
			}
			if denied := p.worker.list(p.worker.denied); len(denied) > 0 {
				t.Errorf("the worker's role does not allow what it needs: %s", strings.Join(denied, ", "))
			}
			for _, what := range []string{"PutItem VARIABLE", "DeleteItem VARIABLE", "PutItem RUN"} {
				if !p.scheduler.used[what] {
					t.Errorf("the scheduler has not answered by %s", what)
				}
			}
			for name, g := range map[string]*guarded{"scheduler": p.scheduler, "worker": p.worker} {
				if len(g.used) < 8 {
					t.Errorf("the %s used only %v: the test proves too little", name, g.list(g.used))
				}
				t.Logf("%s used: %s", name, strings.Join(g.list(g.used), ", "))
			}
		})
	}
}

// useBackend calls everything a running task may ask for.
func (p *played) useBackend(d worker.Dispatch, tc *worker.TaskContext) {
	p.t.Helper()
	ctx, b, key := context.Background(), p.backend, d.Key
	fine := func(what string, err error) {
		p.t.Helper()
		if err != nil && !errors.Is(err, airflow.ErrNotFound) && !errors.Is(err, airflow.ErrAlreadyExists) {
			p.t.Errorf("%s of %s: %v", what, d, err)
		}
	}
	fine("Heartbeat", b.Heartbeat(ctx, d, p.h.Who))
	fine("SetXCom", b.SetXCom(ctx, d, []worker.XComPush{{Key: "k", Value: json.RawMessage(`"v"`)}}))
	q := worker.XComQuery{DagID: key.DagID, RunID: key.RunID, TaskID: "extract", Key: airflow.XComReturnKey, MapIndex: airflow.Unmapped, IncludePriorDates: true}
	_, err := b.GetXCom(ctx, q)
	fine("GetXCom", err)
	q.TaskID = "each"
	_, err = b.ListXCom(ctx, q)
	fine("ListXCom", err)
	_, err = b.GetVariable(ctx, "v")
	fine("GetVariable", err)
	_, err = b.GetConnection(ctx, "c")
	fine("GetConnection", err)
	_, err = b.GetDagRun(ctx, key.DagID, key.RunID)
	fine("GetDagRun", err)
	_, err = b.PreviousDagRun(ctx, tc.Run, airflow.RunSuccess)
	fine("PreviousDagRun", err)
	_, err = b.FindDagRuns(ctx, worker.RunQuery{DagID: key.DagID})
	fine("FindDagRuns", err)
	_, err = b.TaskStates(ctx, worker.TaskStatesQuery{DagID: key.DagID, RunIDs: []airflow.RunID{key.RunID}})
	fine("TaskStates", err)
	_, err = b.GetDag(ctx, key.DagID)
	fine("GetDag", err)
	_, err = b.GetDagVersion(ctx, "consumer")
	fine("GetDagVersion", err)
	for _, w := range p.writes(b, d) {
		if err := p.answered(w.call); err != nil && !errors.Is(err, airflow.ErrAlreadyExists) { // by another mapped instance
			p.t.Errorf("%s of %s: %v", w.what, d, err)
		}
		if v, err := b.GetVariable(ctx, "mine"); w.what == "SetVariable" && (err != nil || v.Value != "2") {
			p.t.Errorf("variable after it was set: %+v, %v", v, err)
		}
	}
	if v, err := b.GetVariable(ctx, "mine"); !errors.Is(err, airflow.ErrNotFound) {
		p.t.Errorf("variable after it was set and deleted: %+v, %v", v, err)
	}
	if run, err := b.GetDagRun(ctx, "victim", triggeredBy(d)); err != nil || run.RunType != airflow.RunTypeManual {
		p.t.Errorf("run that %s has started: %+v, %v", d, run, err)
	}
}

func triggeredBy(d worker.Dispatch) airflow.RunID {
	return "by-" + d.Key.RunID + "-" + airflow.RunID(d.Key.TaskID)
}

// write is a call that changes more than the row of the task.
type write struct {
	what string
	call func() error
}

func (p *played) writes(b *engine.Backend, d worker.Dispatch) []write {
	ctx, at := context.Background(), p.h.Clock.Now()
	return []write{
		{"SetVariable", func() error { return b.SetVariable(ctx, d, airflow.Variable{Key: "mine", Value: "2"}) }},
		{"DeleteVariable", func() error { return b.DeleteVariable(ctx, d, "mine") }},
		{"TriggerDagRun", func() error {
			_, err := b.TriggerDagRun(ctx, d, worker.TriggerRequest{DagID: "victim", RunAfter: at, RunID: triggeredBy(d), RequestID: d.String()})
			return err
		}},
		{"ClearDagRun", func() error { return b.ClearDagRun(ctx, d, "victim", "v1") }},
	}
}

// refuseBare has a worker's process write by itself what it should ask for, as
// hostile code with its credentials would.
func (p *played) refuseBare(d worker.Dispatch) {
	p.t.Helper()
	for _, w := range p.writes(p.bare, d) {
		if err := w.call(); err == nil || !strings.Contains(err.Error(), "AccessDenied") {
			p.t.Errorf("%s without the scheduler: %v; want it to be denied", w.what, err)
		}
	}
}
