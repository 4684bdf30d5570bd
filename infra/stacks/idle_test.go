package stacks_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/gustflow/gust/infra/idlecost"
	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/engine/enginetest"
	"github.com/gustflow/gust/internal/store/kv/memkv"
	"github.com/gustflow/gust/internal/store/kv/meterkv"
)

// TestIdleTick holds the engine to what the bill of an idle month assumes of a
// tick, with a thousand DAGs of which none is due.
func TestIdleTick(t *testing.T) {
	ctx := context.Background()
	meter := meterkv.New(memkv.New(memkv.Options{}))
	h := enginetest.NewShared(meter, engine.Config{DefaultPoolSlots: -1}, slog.New(slog.DiscardHandler))
	for i := range 1000 {
		dag := enginetest.DAG{ID: fmt.Sprintf("dag%d", i), Cron: "0 0 1 1 *", Fields: map[string]any{"catchup": false}, Tasks: []enginetest.Task{{ID: "a", Empty: true}}}
		must[airflow.DagModel](t)(h.Register(ctx, dag))
	}
	deliver := func(e *engine.Engine) {
		for range 20 {
			for _, m := range h.Outbox.Take(h.Clock.Now()) {
				if failed := e.Handle(ctx, []engine.Delivery{{Message: m, ReceiveCount: 1}}); len(failed) > 0 {
					t.Fatalf("message %+v failed", m)
				}
			}
		}
	}
	h.Clock.Advance(time.Minute)
	e := h.NewEngine(false)
	if err := e.TickServerless(ctx); err != nil {
		t.Fatal(err)
	}
	deliver(e)
	for _, c := range []struct {
		name string
		cold bool
	}{{"warm", false}, {"cold", true}} {
		meter.Reset()
		const ticks = 30
		for range ticks {
			h.Clock.Advance(time.Minute)
			if c.cold {
				e = h.NewEngine(false)
			}
			if err := e.TickServerless(ctx); err != nil {
				t.Fatal(err)
			}
			deliver(e)
		}
		total := meter.Total()
		t.Logf("%s: %.2f read units and %.2f write units a tick\n%s", c.name, total.ReadUnits/ticks, total.TotalWriteUnits()/ticks, meter)
		// A function that is invoked every minute stays warm; it is made anew a few
		// times a day, which must not cost much more either.
		reads, writes := idlecost.Default().TickReads, idlecost.Default().TickWrites
		if c.cold {
			reads, writes = 5*reads, 5*writes
		}
		if got := total.ReadUnits / ticks; got > reads {
			t.Errorf("an idle tick reads %.1f units; the bill assumes %v", got, reads)
		}
		if got := total.TotalWriteUnits() / ticks; got > writes {
			t.Errorf("an idle tick writes %.2f units; the bill assumes %v", got, writes)
		}
	}
}
