package schedulerfn

import (
	"context"
	"encoding/json"
	"log/slog"

	"github.com/aws/aws-lambda-go/events"

	"github.com/gustflow/gust/internal/awsmeter"
	"github.com/gustflow/gust/internal/observe"
)

// NewHandler returns the function's handler over an engine, for what runs the
// function without Lambda (package awsemu). The observer, which the engine's
// changes go to, and the reporter may be nil.
func NewHandler(e Scheduler, observer *observe.Observer, usage *awsmeter.Reporter, log *slog.Logger) func(context.Context, json.RawMessage) (events.SQSEventResponse, error) {
	return (&schedulerFunction{engine: e, log: log, observer: observer, usage: usage}).handle
}
