package schedulerfn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/awsapp"
	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/blob"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/queue"
	"github.com/gustflow/gust/internal/retention"
)

const (
	// cleanReserve is what an invocation keeps of its time to write the state, to ask
	// for another invocation and to flush what it observed.
	cleanReserve = 10 * time.Second
	// cleanNeeds is less than which a stage is not begun with.
	cleanNeeds = 15 * time.Second
	// maxCleans is how many invocations one input of the rule makes, at most: what is
	// left waits for the next one.
	maxCleans = 50
)

// cleanStages are the tables that are cleaned one after the other. Task logs are not
// among them: log groups and the lifecycle of the data bucket remove those.
var cleanStages = [][]retention.Table{
	{retention.DagRun, retention.XCom},
	{retention.DagVersion, retention.Bundle}, // what the runs referred to
}

// cleanInput is awsenv.CleanInput, or what goes on with it.
type cleanInput struct {
	Gust  string `json:"gust"`
	Stage int    `json:"stage,omitempty"` // in cleanStages
	Turn  int    `json:"turn,omitempty"`  // how many invocations were before this one
}

// Cleaning is what the scheduler function needs to apply the retention.
type Cleaning struct {
	Policy retention.Policy
	// Open makes the cleaner; it is called when there is something to clean.
	Open func() (*retention.Cleaner, error)
	// Again sends a message to the function itself.
	Again func(ctx context.Context, body string) error
	Log   *slog.Logger
}

// newCleaning wires the cleaning of a deployment.
func newCleaning(app *awsapp.App, policy retention.Policy, cfg engine.Config) *Cleaning {
	return &Cleaning{Policy: policy, Log: app.Log, Open: func() (*retention.Cleaner, error) {
		s, err := app.Store()
		if err != nil {
			return nil, err
		}
		// An engine of its own: which DAGs had runs that went is nobody's to plan, for
		// finished runs hold no slot. The other one would plan all of them at its next event.
		e, err := app.Scheduler(cfg)
		if err != nil {
			return nil, err
		}
		bundles, err := app.Bundles(filepath.Join(os.TempDir(), "gust-bundles"))
		if err != nil {
			return nil, err
		}
		state, err := app.Objects(awsenv.RetentionPrefix)
		if err != nil {
			return nil, err
		}
		return &retention.Cleaner{Store: s, Runs: e, Bundles: bundles, State: CleanState{state}, Now: time.Now}, nil
	}, Again: func(ctx context.Context, body string) error {
		return app.Queues().Send(ctx, app.Config.EventsQueueURL, []queue.Outgoing{{Body: body}})
	}}
}

// CleanState is the retention.State of a deployment: an object.
type CleanState struct{ Objects blob.Objects }

const cleanStateKey = "state.json"

// Read implements retention.State.
func (s CleanState) Read(ctx context.Context) ([]byte, error) {
	b, err := s.Objects.Get(ctx, cleanStateKey)
	if errors.Is(err, airflow.ErrNotFound) {
		return nil, nil
	}
	return b, err
}

// Write implements retention.State.
func (s CleanState) Write(ctx context.Context, b []byte) error {
	return s.Objects.Put(ctx, cleanStateKey, b)
}

// run removes what is older than the retention. When the invocation's time is over
// another one goes on. A nil Cleaning removes nothing.
func (c *Cleaning) run(ctx context.Context, in cleanInput) error {
	if c == nil || c.Policy.Off() {
		return nil
	}
	cleaner, err := c.Open()
	if err != nil {
		return fmt.Errorf("retention: %w", err)
	}
	for ; in.Stage >= 0 && in.Stage < len(cleanStages); in.Stage++ {
		limited, cancel := ctx, context.CancelFunc(func() {})
		if end, ok := ctx.Deadline(); ok {
			end = end.Add(-cleanReserve)
			if time.Until(end) < cleanNeeds {
				return c.again(ctx, in)
			}
			limited, cancel = context.WithDeadline(ctx, end)
		}
		done, err := c.stage(limited, cleaner, in)
		over := limited.Err() != nil
		cancel()
		switch {
		case err == nil:
		case !over:
			return fmt.Errorf("retention: %w", err)
		case in.Stage > 0 && done == 0:
			// What is referred to has to be read as a whole: another invocation would get
			// no further.
			c.Log.WarnContext(ctx, "reading what versions and runs refer to takes longer than an invocation: documents and snapshots that nobody refers to stay", "err", err)
			return nil
		default:
			return c.again(ctx, in)
		}
	}
	return nil
}

// stage cleans the tables of a stage and returns how many rows and files went.
func (c *Cleaning) stage(ctx context.Context, cleaner *retention.Cleaner, in cleanInput) (removed int, err error) {
	q := c.Policy.Request(cleaner.Now(), cleanStages[in.Stage])
	q.Resume = in.Stage == 0
	rs, err := cleaner.Clean(ctx, q)
	for _, r := range rs {
		removed += r.Rows
		if r.Rows > 0 {
			c.Log.InfoContext(ctx, "removed what is older than the retention", awsenv.LogEvent, "retention", "table", r.Table, "rows", r.Rows, "bytes", r.Bytes)
		}
	}
	return removed, err
}

// again asks for an invocation that goes on from here.
func (c *Cleaning) again(ctx context.Context, in cleanInput) error {
	if in.Turn++; in.Turn >= maxCleans {
		c.Log.WarnContext(ctx, "there is more to remove than one day's invocations can: the next day goes on", "invocations", in.Turn)
		return nil
	}
	in.Gust = "clean"
	b, err := json.Marshal(in)
	if err == nil {
		err = c.Again(ctx, string(b))
	}
	if err != nil {
		return fmt.Errorf("retention: ask for another invocation: %w", err)
	}
	return nil
}
