package localapp

import (
	"context"
	"time"

	"github.com/gustflow/gust/internal/executor"
	"github.com/gustflow/gust/internal/observe"
)

// measureEvery is Airflow's [scheduler] scheduler_heartbeat_sec and
// pool_metrics_interval.
const measureEvery = 5 * time.Second

// measure exports what has a value at all times, while the server runs: nothing is
// counted unless a metrics exporter is on.
func (a *App) measure(ctx context.Context) {
	if !a.export.Measures() {
		return
	}
	t := time.NewTicker(measureEvery)
	defer t.Stop()
	for {
		a.export.Sample(a.gauges(ctx)...)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// gauges measures pools, executors and runs under Airflow's names.
func (a *App) gauges(ctx context.Context) []observe.Sample {
	out := []observe.Sample{observe.NewSample(observe.Counter, "scheduler_heartbeat", 1)}
	gauge := func(name string, value int, tags ...observe.Tag) {
		out = append(out, observe.NewSample(observe.Gauge, name, float64(value), tags...))
	}
	load := a.Engine.Load()
	gauge("scheduler.dagruns.running", load.RunningDagRuns)
	pools, err := a.Engine.Pools(ctx)
	if err != nil && ctx.Err() == nil {
		a.log.Warn("pools not measured", "err", err)
	}
	for _, p := range pools {
		name, slots := observe.Tag{Key: "pool_name", Value: p.Name}, load.Pools[p.Name]
		gauge("pool.open_slots", p.OpenSlots, name)
		gauge("pool.queued_slots", slots.Queued, name)
		gauge("pool.running_slots", slots.Running, name)
		gauge("pool.deferred_slots", slots.Deferred, name)
		gauge("pool.scheduled_slots", slots.Scheduled, name)
	}
	for _, x := range a.executors {
		local, ok := x.(*executor.Local)
		if !ok {
			continue // its slots are on other machines
		}
		slots, queued, running := local.Load()
		class := observe.Tag{Key: "executor_class_name", Value: x.Name()}
		gauge("executor.open_slots", slots-running, observe.Tag{Key: "status", Value: "open"}, class)
		gauge("executor.queued_tasks", queued, observe.Tag{Key: "status", Value: "queued"}, class)
		gauge("executor.running_tasks", running, observe.Tag{Key: "status", Value: "running"}, class)
	}
	return out
}
