// Package eventsfn is the function that hears of dispatches which nobody else can
// report on (package taskevents).
package eventsfn

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/gustflow/gust/internal/awsapp"
	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/queue"
	"github.com/gustflow/gust/internal/taskevents"
)

// Run is the main of the function; it never returns.
func Run() {
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	c, err := awsapp.FromEnv(awsenv.EventsQueueURL, awsenv.TimersQueueURL)
	if err != nil {
		log.Error("taskevents cannot start", "err", err)
		os.Exit(1)
	}
	app, err := awsapp.Open(context.Background(), c, awsapp.Options{Log: log})
	if err != nil {
		log.Error("taskevents cannot start", "err", err)
		os.Exit(1)
	}
	outbox, err := app.Outbox()
	if err != nil {
		log.Error("taskevents cannot start", "err", err)
		os.Exit(1)
	}
	f := &Function{Outbox: outbox, Queues: app.Queues(), EventsQueueURL: c.EventsQueueURL, Log: log}
	lambda.Start(f.Handle)
}

// Function handles the events of the function.
type Function struct {
	Outbox         engine.Outbox
	Queues         queue.Queues
	EventsQueueURL string
	Log            *slog.Logger
}

// Handle serves a batch of dead letters, an event of ECS, or the record of a failed
// invocation. An error makes all of it be delivered again: everything here may
// happen twice.
func (f *Function) Handle(ctx context.Context, event json.RawMessage) error {
	var batch struct {
		Records []struct {
			MessageID   string            `json:"messageId"`
			Body        string            `json:"body"`
			EventSource string            `json:"eventSource"`
			QueueARN    string            `json:"eventSourceARN"`
			Attributes  map[string]string `json:"attributes"`
		} `json:"Records"`
	}
	var tell []engine.Message
	var again []queue.Outgoing
	take := func(body []byte, args ...any) {
		found, err := taskevents.Read(body)
		if err != nil {
			f.Log.Error("an event that is not understood is dropped", append(args, "err", err)...)
			return
		}
		switch {
		case found.Alarm:
			f.Log.Error(found.What, args...)
		case found.What != "":
			f.Log.Warn(found.What, args...)
		}
		if found.Tell != nil {
			tell = append(tell, *found.Tell)
		}
		if found.Again != "" {
			again = append(again, queue.Outgoing{Body: found.Again, Delay: found.Delay})
		}
	}
	if json.Unmarshal(event, &batch) == nil && len(batch.Records) > 0 && batch.Records[0].EventSource == "aws:sqs" {
		for _, m := range batch.Records {
			take([]byte(m.Body), "message_id", m.MessageID, "queue", m.QueueARN)
		}
	} else {
		take(event)
	}
	var errs []error
	if len(tell) > 0 {
		errs = append(errs, f.Outbox.Send(ctx, tell))
	}
	if len(again) > 0 {
		errs = append(errs, f.Queues.Send(ctx, f.EventsQueueURL, again))
	}
	return errors.Join(errs...)
}
