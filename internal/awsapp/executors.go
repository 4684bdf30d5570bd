package awsapp

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/executor"
	"github.com/gustflow/gust/internal/executor/lambdaexec"
	"github.com/gustflow/gust/internal/queue"
)

// LambdaExecutor sends dispatches to the task queues.
func (a *App) LambdaExecutor(refuse executor.Refuse) *lambdaexec.Executor {
	o := lambdaexec.Options{Queues: a.Queues(), URLs: a.Config.TaskQueues, DefaultQueue: a.Config.DefaultQueue, Refuse: refuse}
	if a.Invoke != nil {
		o.Functions, o.Invoke = a.Config.WorkerFunctions, a.Invoke
	}
	return lambdaexec.New(o)
}

// callbackQueue is engine.CallbackQueue on the default task queue.
type callbackQueue struct {
	queues queue.Queues
	url    string
}

// CallbackMessage is a message of a task queue that asks for a callback instead
// of a dispatch.
type CallbackMessage struct {
	Callback string `json:"callback"` // id of the pending callback
}

// CallbackQueue hands callbacks to the workers of the default queue.
func (a *App) CallbackQueue() (engine.CallbackQueue, error) {
	url := a.Config.TaskQueues[a.Config.DefaultQueue]
	if url == "" {
		return nil, fmt.Errorf("the default queue %q is not among the task queues, so that no worker would run callbacks", a.Config.DefaultQueue)
	}
	return callbackQueue{a.Queues(), url}, nil
}

// SubmitCallbacks implements engine.CallbackQueue.
func (q callbackQueue) SubmitCallbacks(ctx context.Context, ids []string) error {
	ms := make([]queue.Outgoing, len(ids))
	for i, id := range ids {
		b, err := json.Marshal(CallbackMessage{Callback: id})
		if err != nil {
			return fmt.Errorf("callback %s: %w", id, err)
		}
		ms[i].Body = string(b)
	}
	return q.queues.Send(ctx, q.url, ms)
}
