package localapp

import (
	"context"
	"time"

	"github.com/gustflow/gust/internal/retention"
)

const (
	// retentionDelay lets a server that has just started get its work going first.
	retentionDelay = time.Minute
	// collectEvery is how often documents and snapshots are looked through: that
	// reads every run.
	collectEvery = 24 * time.Hour
)

// Archive is where `db clean` keeps what it removes.
func (h Home) Archive() string { return h.path("archive") }

// Cleaner returns what removes data of this home that are too old.
func (a *App) Cleaner() *retention.Cleaner {
	return &retention.Cleaner{
		Store: a.Store, Runs: a.Engine, Logs: a.Logs, Bundles: a.Bundles, State: retention.StateFile(a.Home.path("retention.json")), Now: time.Now,
		RunRemoved: a.Home.DeleteRecords,
	}
}

// retain applies the retention of this home until ctx ends.
func (a *App) retain(ctx context.Context) {
	p, every := a.Options.Retention, a.Options.RetentionInterval
	if p.Off() {
		return
	}
	if every <= 0 {
		every = time.Hour
	}
	var collected time.Time
	for wait := min(every, retentionDelay); ; wait = every {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		now := time.Now()
		tables := []retention.Table{retention.DagRun, retention.XCom, retention.TaskLog}
		if now.Sub(collected) >= collectEvery {
			tables = append(tables, retention.DagVersion, retention.Bundle)
			collected = now
		}
		rs, err := a.Cleaner().Clean(ctx, p.Request(now, tables))
		if err != nil && ctx.Err() == nil {
			a.log.Error("retention", "err", err)
		}
		for _, r := range rs {
			if r.Rows > 0 {
				a.log.Info("removed what is older than the retention", "table", r.Table, "rows", r.Rows, "bytes", r.Bytes)
			}
		}
	}
}
