package awsapp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/queue"
)

// outbox is engine.Outbox on SQS: messages for later go to the timers queue, which
// can delay them, all others to the events queue.
type outbox struct {
	queues         queue.Queues
	events, timers string
	now            func() time.Time
}

// Outbox takes messages to the scheduler.
func (a *App) Outbox() (engine.Outbox, error) {
	if a.Config.EventsQueueURL == "" || a.Config.TimersQueueURL == "" {
		return nil, errors.Join(missing(awsenv.EventsQueueURL), missing(awsenv.TimersQueueURL))
	}
	return &outbox{queues: a.Queues(), events: a.Config.EventsQueueURL, timers: a.Config.TimersQueueURL, now: time.Now}, nil
}

// Send implements engine.Outbox.
func (o *outbox) Send(ctx context.Context, ms []engine.Message) error {
	var now, later []queue.Outgoing
	for _, m := range ms {
		body, err := json.Marshal(m)
		if err != nil {
			return fmt.Errorf("message of kind %q: %w", m.Kind, err)
		}
		out := queue.Outgoing{Body: string(body)}
		if !m.At.IsZero() {
			out.Delay = m.At.Sub(o.now())
		}
		if out.Delay <= 0 {
			out.Delay = 0
			now = append(now, out)
			continue
		}
		// Whoever gets it early sends it again: the time is in the message.
		out.Delay = min(out.Delay, queue.MaxDelay)
		later = append(later, out)
	}
	var errs []error
	if len(now) > 0 {
		errs = append(errs, o.queues.Send(ctx, o.events, now))
	}
	if len(later) > 0 {
		errs = append(errs, o.queues.Send(ctx, o.timers, later))
	}
	return errors.Join(errs...)
}
