// Package awsecs opens the executor that starts a container per dispatch, for the
// scheduler of a deployment that has a cluster. It is a package of its own so that
// only the scheduler links the client of ECS.
package awsecs

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/ecs"

	"github.com/gustflow/gust/internal/awsapp"
	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/executor"
	"github.com/gustflow/gust/internal/executor/ecsexec"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/worker"
)

// Open returns the executors for App.Scheduler: none where there is no cluster.
func Open(a *awsapp.App, cfg engine.Config) ([]executor.Executor, error) {
	if a.Config.ECS == "" {
		return nil, nil
	}
	var c awsenv.ECS
	if err := json.Unmarshal([]byte(a.Config.ECS), &c); err != nil {
		return nil, fmt.Errorf("%s: %w", awsenv.ECSExecutor, err)
	}
	docs, refuse, err := a.Refuser(cfg)
	if err != nil {
		return nil, err
	}
	return []executor.Executor{ecsexec.New(ecsexec.Options{
		API: ecs.NewFromConfig(a.AWS()), Config: c, Refuse: refuse, DefaultQueue: a.Config.DefaultQueue, Log: a.Log,
		TaskConfig: func(ctx context.Context, d worker.Dispatch) (json.RawMessage, error) { return taskConfig(ctx, docs, d) },
	})}, nil
}

// taskConfig reads the executor_config of a dispatch's task, as of its run's version.
func taskConfig(ctx context.Context, docs *engine.Engine, d worker.Dispatch) (json.RawMessage, error) {
	run, err := docs.Store().GetRun(ctx, store.RunKey{DagID: d.Key.DagID, RunID: d.Key.RunID})
	if err != nil {
		return nil, err
	}
	g, err := docs.Graph(ctx, run.DagHash)
	if err != nil {
		return nil, err
	}
	for _, t := range g.DAG.Tasks {
		if t.TaskID == d.Key.TaskID {
			return t.ExecutorConfig, nil
		}
	}
	return nil, nil
}
