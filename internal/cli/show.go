package cli

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/dagdraw"
	"github.com/gustflow/gust/internal/localapp"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/tasklog"
)

// logs returns the task logs of a home.
func (c *command) logs(a *localapp.App) *tasklog.Logs {
	return tasklog.New(a.Options.LogFolder, tasklog.Options{Now: c.env.Now})
}

func (c *command) dagsShow() *cobra.Command {
	var save, format, runID string
	var imgcat bool
	cmd := &cobra.Command{
		Use: "show DAG_ID", Short: "Draw a DAG: in the terminal, or as DOT, SVG or Mermaid", Args: cobra.ExactArgs(1),
		Example: `  gust dags show my_dag
  gust dags show my_dag --run manual__2026-01-31T08:00:00+00:00   with states
  gust dags show my_dag --save graph.svg                      or .dot, .mmd, .txt
  gust dags show my_dag --format dot | dot -Tpng > graph.png`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if imgcat {
				return usagef("--imgcat is not supported: use --format dot | dot -Tpng | imgcat")
			}
			f := format
			if f == "" && save != "" {
				f = strings.TrimPrefix(filepath.Ext(save), ".")
			}
			if f == "" {
				f = "text"
				if c.env.Name == "airflow" && !c.env.Terminal {
					f = "dot" // what scripts written for Airflow expect
				}
			}
			a, err := c.open(cmd.Context())
			if err != nil {
				return err
			}
			m, err := c.dag(cmd.Context(), a, args[0])
			if err != nil {
				return err
			}
			hash := m.LatestHash
			var states map[airflow.TaskID]airflow.TIState
			if runID != "" {
				r, err := c.findRun(cmd.Context(), a, args[0], runID)
				if err != nil {
					return err
				}
				hash = r.DagHash
				tis, err := a.Engine.TaskInstances(cmd.Context(), store.RunKey{DagID: r.DagID, RunID: r.RunID})
				if err != nil {
					return err
				}
				states = taskStates(tis)
			}
			g, err := a.Engine.Graph(cmd.Context(), hash)
			if err != nil {
				return err
			}
			out, err := c.drawing(f, g.DAG, states, save == "")
			if err != nil {
				return err
			}
			if save == "" {
				_, err = fmt.Fprint(c.env.Stdout, out)
				return err
			}
			if err := c.writeOutput(save, []byte(out)); err != nil {
				return err
			}
			c.say("File %s saved", save)
			return nil
		},
	}
	cmd.Flags().StringVarP(&save, "save", "s", "", "write to this file; its extension is the format")
	cmd.Flags().StringVar(&format, "format", "", "text, dot, svg or mermaid")
	cmd.Flags().StringVar(&runID, "run", "", "show the states of this run")
	cmd.Flags().BoolVar(&imgcat, "imgcat", false, "")
	_ = cmd.Flags().MarkHidden("imgcat")
	return cmd
}

func (c *command) drawing(format string, d *airflow.DAG, states map[airflow.TaskID]airflow.TIState, screen bool) (string, error) {
	switch format {
	case "text", "txt":
		return dagdraw.Text(d, dagdraw.Options{Width: c.env.Width, Color: screen && c.color(), States: states}), nil
	case "dot", "gv":
		return dagdraw.DOT(d, states), nil
	case "svg":
		return dagdraw.SVG(d, states), nil
	case "mermaid", "mmd":
		return dagdraw.Mermaid(d, states), nil
	}
	return "", usagef("format %q is unknown: expected text, dot, svg or mermaid (for others: --format dot | dot -T%s)", format, format)
}

// taskStates returns one state per task: of a mapped task the one that says most.
func taskStates(tis []airflow.TaskInstance) map[airflow.TaskID]airflow.TIState {
	rank := map[airflow.TIState]int{
		airflow.TIFailed: 9, airflow.TIUpForRetry: 8, airflow.TIRunning: 7, airflow.TIDeferred: 6, airflow.TIUpForReschedule: 6, airflow.TIQueued: 5,
		airflow.TIScheduled: 4, airflow.TIUpstreamFailed: 3, airflow.TISuccess: 2, airflow.TISkipped: 1,
	}
	out := map[airflow.TaskID]airflow.TIState{}
	for _, t := range tis {
		if have, ok := out[t.TaskID]; !ok || rank[t.State] > rank[have] {
			out[t.TaskID] = t.State
		}
	}
	return out
}
