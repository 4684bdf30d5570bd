package schedulerfn

import (
	"context"
	"encoding/json"
	"log/slog"

	"github.com/aws/aws-lambda-go/events"
)

// NewHandler returns the function's handler over an engine, for what runs the
// function without Lambda (package awsemu).
func NewHandler(e Scheduler, log *slog.Logger) func(context.Context, json.RawMessage) (events.SQSEventResponse, error) {
	return (&schedulerFunction{engine: e, log: log}).handle
}
