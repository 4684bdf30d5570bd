package workerfn

import (
	"context"
	"encoding/json"
	"log/slog"

	"github.com/aws/aws-lambda-go/events"

	"github.com/gustflow/gust/internal/awsapp"
	"github.com/gustflow/gust/internal/awsapp/awsworker"
	"github.com/gustflow/gust/internal/awsmeter"
)

// NewHandler returns the function's handler over a worker, for what runs the
// function without Lambda (package awsemu). The reporter may be nil; exit takes the
// place of os.Exit.
func NewHandler(a *awsapp.App, w *awsworker.Worker, usage *awsmeter.Reporter, log *slog.Logger, exit func(code int)) func(context.Context, json.RawMessage) (events.SQSEventResponse, error) {
	return (&workerFunction{app: a, worker: w, usage: usage, log: log, exit: exit}).handle
}
