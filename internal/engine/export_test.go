package engine

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
)

// ActForTest carries out any action on a run.
func (e *Engine) ActForTest(ctx context.Context, k store.RunKey, f func(*scheduler.Graph, *scheduler.RunState, time.Time) (scheduler.ActionResult, error)) error {
	_, err := e.act(ctx, k, f)
	return err
}

// Unload makes the next step of a run read the store, as after a conflict, and
// asks for one.
func (e *Engine) Unload(k store.RunKey) {
	e.mu.Lock()
	r := e.runs[k]
	e.mu.Unlock()
	r.mu.Lock()
	e.unload(r)
	r.mu.Unlock()
	e.poke(r)
}

// Accounts are what the admission believes is taken, in words; only what is not zero.
func (e *Engine) Accounts() string { return e.admission.accounts() }

// AccountsOfStore are the accounts worked out from the stored states alone.
func (e *Engine) AccountsOfStore(ctx context.Context) (string, error) {
	a := newAdmission(e.cfg.Parallelism)
	active, err := e.store.ListActiveRuns(ctx, "")
	if err != nil {
		return "", err
	}
	for _, info := range active {
		g, rs, err := e.readState(ctx, info)
		if err != nil {
			return "", err
		}
		if rs != nil {
			a.load(store.RunKey{DagID: info.DagID, RunID: info.RunID}, g, rs)
		}
	}
	return a.accounts(), nil
}

func (a *admission) accounts() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []string
	for name, p := range a.pools {
		if p.occupied != 0 || p.deferred != 0 {
			out = append(out, fmt.Sprintf("pool %s: %d+%d", name, p.occupied, p.deferred))
		}
	}
	for k, n := range a.perTask {
		out = append(out, fmt.Sprintf("%v: %d", k, n))
	}
	for key, ra := range a.runs {
		if ra.active != 0 || len(ra.leaving)+len(ra.promised)+len(ra.reserved)+len(ra.granted) > 0 {
			out = append(out, fmt.Sprintf("%s: %d active, %d leaving, %d promised, %d reserved, %d granted", key, ra.active, len(ra.leaving), len(ra.promised), len(ra.reserved), len(ra.granted)))
		}
	}
	sort.Strings(out)
	return fmt.Sprintf("%d active\n%s", a.active, strings.Join(out, "\n"))
}

// Remembered counts what the engine keeps besides runs.
func (e *Engine) Remembered() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return fmt.Sprintf("%d runs, %d claims, %d watchers, %d callbacks, %d delayed", len(e.runs), len(e.claims), len(e.watchers), len(e.inFlight), len(e.delayed))
}
