package workerfn

import (
	"context"
	"encoding/json"
	"log/slog"

	"github.com/aws/aws-lambda-go/events"

	"github.com/gustflow/gust/internal/awsapp"
	"github.com/gustflow/gust/internal/awsapp/awsworker"
)

// NewHandler returns the function's handler over a worker, for what runs the
// function without Lambda (package awsemu). exit takes the place of os.Exit.
func NewHandler(a *awsapp.App, w *awsworker.Worker, log *slog.Logger, exit func(code int)) func(context.Context, json.RawMessage) (events.SQSEventResponse, error) {
	return (&workerFunction{app: a, worker: w, log: log, exit: exit}).handle
}
