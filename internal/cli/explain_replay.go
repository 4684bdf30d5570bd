package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/scheduler"
	"github.com/gustflow/gust/internal/store"
)

func (c *command) replay() *cobra.Command {
	var task string
	var differs bool
	cmd := &cobra.Command{
		Use: "replay DAG_ID LOGICAL_DATE_OR_RUN_ID", Short: "Decide the recorded steps of a run again and show why each thing happened", Args: cobra.ExactArgs(2),
		Long: `Every step of a run is recorded with its inputs: what was reported, what was known of other runs, who got a slot, and the time.
This command decides each step again from them and shows what changed and why; it ends with 1 if this program would now decide differently.`,
		Example: `  gust replay my_dag my_run
  gust replay my_dag my_run --task load        only what concerns one task
  gust replay my_dag my_run -o json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			a, err := c.open(ctx)
			if err != nil {
				return err
			}
			// A run that was deleted may still have records.
			key := store.RunKey{DagID: airflow.DagID(args[0]), RunID: airflow.RunID(args[1])}
			if r, err := c.findRun(ctx, a, args[0], args[1]); err == nil {
				key.RunID = r.RunID
			}
			p := &engine.Replay{Graph: func(hash string) (*scheduler.Graph, error) { return a.Engine.Graph(ctx, hash) }}
			var rs []row
			steps, decided, different := 0, 0, 0
			err = a.Home.ReadRecords(key, func(rec engine.Record) error {
				s, err := p.Step(rec)
				if err != nil {
					return err
				}
				steps++
				if s.Decided {
					decided++
				}
				if s.Differs {
					different++
				}
				if differs && !s.Differs {
					return nil
				}
				if c.output == "table" || c.output == "plain" {
					c.showStep(s, steps, airflow.TaskID(task))
					return nil
				}
				r := row{
					{"step", steps}, {"at", s.At}, {"version", s.Version}, {"events", nonNil(s.Events)}, {"transitions", transitionsOf(s.Transitions, task)},
					{"run_before", s.RunBefore}, {"run_state", s.RunState}, {"run_reason", s.Reason}, {"decided_again", s.Decided}, {"differs", s.Differs}, {"note", s.Note},
				}
				if s.Differs {
					r = append(r, pair{"would_be", transitionsOf(s.Now, task)}, pair{"would_be_run_state", s.NowRun})
				}
				rs = append(rs, r)
				return nil
			})
			if err != nil {
				return err
			}
			if c.output != "table" && c.output != "plain" {
				if err := c.rows(rs); err != nil {
					return err
				}
			} else {
				c.say("%d steps, %d decided again, %d differently", steps, decided, different)
			}
			if different > 0 {
				return exitError(ExitFailed)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&task, "task", "", "only transitions of this task")
	cmd.Flags().BoolVar(&differs, "differs", false, "only steps that would be decided differently now")
	return cmd
}

func transitionsOf(ts []scheduler.Transition, task string) []scheduler.Transition {
	out := []scheduler.Transition{}
	for _, t := range ts {
		if task == "" || string(t.TaskID) == task {
			out = append(out, t)
		}
	}
	return out
}

// showStep prints a step for people.
func (c *command) showStep(s engine.Replayed, n int, task airflow.TaskID) {
	ts := transitionsOf(s.Transitions, string(task))
	if task != "" && len(ts) == 0 && !s.Differs {
		return
	}
	c.say("%s  step %d: %s", s.At.UTC().Format("2006-01-02 15:04:05.000000"), n, eventsText(s.Events))
	if s.Note != "" {
		c.say("    note: %s", s.Note)
	}
	for _, t := range ts {
		c.say("    %s", c.transition(t))
	}
	if s.RunState != s.RunBefore {
		why := ""
		if s.Reason != "" {
			why = " (" + codeText(s.Reason) + ")"
		}
		c.say("    the run: %s → %s%s", s.RunBefore, c.paint(string(s.RunState), stateColor(string(s.RunState))), why)
	}
	if s.Differs {
		c.say("    %s this program would decide differently:", c.paintErr("!"))
		for _, t := range transitionsOf(s.Now, string(task)) {
			c.say("      %s", c.transition(t))
		}
		c.say("      the run: %s", s.NowRun)
	}
}

// eventsText shortens the events of a step: many tasks may report at once.
func eventsText(events []string) string {
	const most = 4
	if len(events) == 0 {
		return "time passed, or something outside the run changed"
	}
	if len(events) > most {
		return strings.Join(events[:most], ", ") + fmt.Sprintf(" and %d more events", len(events)-most)
	}
	return strings.Join(events, ", ")
}

func (c *command) transition(t scheduler.Transition) string {
	to := c.paint(stateText(t.To), stateColor(t.To.String()))
	text := fmt.Sprintf("%s: %s → %s", airflow.TIName(t.TaskID, t.MapIndex), stateText(t.From), to)
	if t.Created {
		text = fmt.Sprintf("%s: created, %s", airflow.TIName(t.TaskID, t.MapIndex), to)
	}
	switch {
	case t.To == airflow.TIRunning:
		text += " (a worker claimed it)"
	case t.Why != "":
		text += " (" + codeText(t.Why) + ")"
	}
	if t.TryNumber > 1 {
		text += fmt.Sprintf(", try %d", t.TryNumber)
	}
	return text
}

// codeTexts say what codes of transitions mean.
var codeTexts = map[scheduler.Code]string{
	scheduler.CodeTriggerRule:      "its trigger rule decided",
	scheduler.CodeSetup:            "its setup tasks decided",
	scheduler.CodePreviouslySkip:   "a branch above had skipped it before",
	scheduler.CodeMappedUpstream:   "what it expands over did not succeed",
	scheduler.CodeExpanded:         "the mapped task was expanded",
	scheduler.CodeNotExpandable:    "what it expands over has no known length",
	scheduler.CodeEmptyExpansion:   "it expands over nothing",
	scheduler.CodeShrunk:           "the expansion became shorter",
	scheduler.CodeDepsMet:          "its dependencies are met",
	scheduler.CodeNoWorkNeeded:     "there is nothing to run",
	scheduler.CodeStartFromTrigger: "it starts in the triggerer",
	scheduler.CodeReported:         "the worker reported it",
	scheduler.CodeBranch:           "a branch above skipped it",
	scheduler.CodeFailFast:         "fail_fast: another task failed",
	scheduler.CodeTimedOut:         "dagrun_timeout passed",
	scheduler.CodeTriggerTimeout:   "its trigger timed out",
	scheduler.CodeQueuedTimeout:    "no worker took it in time",
	scheduler.CodeRetry:            "it failed and is tried again",
	scheduler.CodeRunFinished:      "the run had ended",
	scheduler.CodeAdmitted:         "it got a slot",
	scheduler.CodeCleared:          "it was cleared",
	scheduler.CodeMarked:           "it was marked by hand",
	scheduler.CodeTaskGone:         "the DAG version has no such task",
	scheduler.CodeTaskBack:         "the DAG version has the task again",
	scheduler.CodeTaskAdded:        "the DAG version added it",
	scheduler.CodeSuccess:          "all leaf tasks succeeded or were skipped",
	scheduler.CodeTaskFailure:      "a leaf task failed",
	scheduler.CodeDeadlocked:       "nothing can go on",
}

func codeText(code scheduler.Code) string {
	if s := codeTexts[code]; s != "" {
		return s
	}
	return string(code)
}
