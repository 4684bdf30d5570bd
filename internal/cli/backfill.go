package cli

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/localapp"
	"github.com/gustflow/gust/internal/store"
)

func (c *command) backfillCommands() []*cobra.Command {
	return []*cobra.Command{group("backfill", "Run a DAG for a range of past dates",
		c.backfillCreate(), c.backfillList(), c.backfillPause(true), c.backfillPause(false), c.backfillCancel())}
}

func (c *command) backfillCreate() *cobra.Command {
	var dag, from, to, confText, reprocess string
	var dryRun, backwards, latest bool
	var active int
	cmd := &cobra.Command{
		Use: "create", Short: "Create the runs of a DAG for a range of dates", Args: cobra.NoArgs,
		Long: "Creates a backfill: one run per date of the DAG's schedule between the two dates, both included. A running server works through them.",
		Example: `  gust backfill create --dag-id my_dag --from-date 2026-01-01 --to-date 2026-01-31 --dry-run
  gust backfill create --dag-id my_dag --from-date 2026-01-01 --to-date 2026-01-31 --max-active-runs 4
  gust backfill create --dag-id my_dag --from-date 2026-01-01 --to-date 2026-01-31 --reprocess-behavior failed`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			q := engine.BackfillRequest{DryRun: dryRun, User: c.env.User, Backfill: airflow.Backfill{
				DagID: airflow.DagID(dag), Reverse: backwards, MaxActiveRuns: active, RunOnLatestVersion: latest, ReprocessBehavior: airflow.ReprocessBehavior(reprocess),
			}}
			switch q.ReprocessBehavior {
			case airflow.ReprocessNone, airflow.ReprocessFailed, airflow.ReprocessCompleted:
			default:
				return usagef("--reprocess-behavior %q is unknown: expected none, failed or completed", reprocess)
			}
			if active < 1 {
				return usagef("--max-active-runs must be at least 1")
			}
			for _, d := range []struct {
				flag, text string
				into       *time.Time
			}{{"--from-date", from, &q.FromDate}, {"--to-date", to, &q.ToDate}} {
				t, err := c.parseDate(d.flag, d.text)
				if err != nil {
					return err
				}
				if t == nil {
					return usagef("%s is missing: expected a date such as 2026-01-31", d.flag)
				}
				*d.into = *t
			}
			if q.ToDate.Before(q.FromDate) {
				return usagef("--to-date %s lies before --from-date %s", to, from)
			}
			runConf, err := parseConf("--dag-run-conf", confText)
			if err != nil {
				return err
			}
			q.DagRunConf = runConf
			a, err := c.open(ctx)
			if err != nil {
				return err
			}
			m, err := c.dag(ctx, a, dag)
			if err != nil {
				return err
			}
			if !cmd.Flags().Changed("run-on-latest-version") {
				if q.RunOnLatestVersion, err = c.onLatest(ctx, a, m); err != nil {
					return fmt.Errorf("DAG %q: %w", dag, err)
				}
			}
			b, runs, err := a.Engine.CreateBackfill(ctx, q)
			if err != nil {
				return err
			}
			if dryRun {
				c.say("Performing dry run of backfill.")
				if len(runs) == 0 && c.output == "table" {
					c.say("No run would be made.")
					return nil
				}
				c.say("Printing params:\n    - dag_id = %s\n    - from_date = %s\n    - to_date = %s\n    - max_active_runs = %d\n    - reverse = %s\n    - dag_run_conf = %s\n    - reprocess_behavior = %s",
					b.DagID, iso(&b.FromDate), iso(&b.ToDate), b.MaxActiveRuns, boolText(b.Reverse), nullable(b.DagRunConf), b.ReprocessBehavior)
				return c.rows(backfillRuns(runs), "logical_date", "run_after", "existing_run_id")
			}
			n := localapp.Notice{Discover: true, Dags: []airflow.DagID{b.DagID}}
			for _, r := range runs {
				if r.Existing != "" {
					n.Runs = append(n.Runs, store.RunKey{DagID: b.DagID, RunID: r.Existing})
				}
			}
			if err := c.tell(ctx, a, n, "the backfill goes on"); err != nil {
				return err
			}
			if m.IsPaused {
				c.hint("DAG %q is paused: the runs stay queued until `%s dags unpause %s`", m.DagID, c.env.Name, m.DagID)
			}
			c.say("Backfill %d: %d runs; see `%s dags list-runs %s`, stop it with `%s backfill cancel %d`", b.ID, len(runs), c.env.Name, b.DagID, c.env.Name, b.ID)
			if c.output == "table" {
				return nil
			}
			return c.details(append(backfillRow(b), pair{"dag_runs", backfillRuns(runs)}))
		},
	}
	f := cmd.Flags()
	f.StringVar(&dag, "dag-id", "", "the DAG")
	f.StringVar(&from, "from-date", "", "the earliest logical date")
	f.StringVar(&to, "to-date", "", "the latest logical date")
	f.StringVar(&confText, "dag-run-conf", "", "the runs' conf, a JSON object")
	f.BoolVar(&dryRun, "dry-run", false, "show what would be created and change nothing")
	f.BoolVar(&backwards, "run-backwards", false, "newest date first (not for DAGs with depends_on_past)")
	f.IntVar(&active, "max-active-runs", 10, "how many of its runs may run at once")
	f.StringVar(&reprocess, "reprocess-behavior", "none", "dates that have a run: none (leave it), failed (run failed ones again), completed (run all ended ones again)")
	f.BoolVar(&latest, "run-on-latest-version", false, "existing runs run again on the newest version of the DAG")
	_ = cmd.MarkFlagRequired("dag-id")
	_ = cmd.MarkFlagRequired("from-date")
	_ = cmd.MarkFlagRequired("to-date")
	return cmd
}

func nullable(b json.RawMessage) string {
	if len(b) == 0 {
		return "None"
	}
	return string(b)
}

func backfillRow(b airflow.Backfill) row {
	return row{
		{"id", b.ID}, {"dag_id", b.DagID}, {"from_date", b.FromDate}, {"to_date", b.ToDate}, {"is_paused", b.IsPaused},
		{"reprocess_behavior", b.ReprocessBehavior}, {"max_active_runs", b.MaxActiveRuns}, {"run_backwards", b.Reverse},
		{"run_on_latest_version", b.RunOnLatestVersion}, {"dag_run_conf", b.DagRunConf},
		{"created_at", b.CreatedAt}, {"completed_at", b.CompletedAt}, {"updated_at", b.UpdatedAt}, {"triggering_user_name", b.TriggeringUserName},
	}
}

func backfillRuns(runs []engine.BackfillRun) []row {
	out := []row{}
	for _, r := range runs {
		out = append(out, row{{"logical_date", r.LogicalDate}, {"run_after", r.RunAfter.UTC()}, {"existing_run_id", r.Existing}})
	}
	return out
}

func (c *command) backfillList() *cobra.Command {
	var dag string
	var active bool
	cmd := &cobra.Command{
		Use: "list", Short: "List backfills, newest first", Args: cobra.NoArgs,
		Example: "  gust backfill list --dag-id my_dag --active",
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := c.open(cmd.Context())
			if err != nil {
				return err
			}
			bs, err := a.Store.ListBackfills(cmd.Context())
			if err != nil {
				return err
			}
			var rs []row
			for _, b := range bs {
				if dag != "" && string(b.DagID) != dag || active && b.CompletedAt != nil {
					continue
				}
				rs = append(rs, backfillRow(b))
			}
			return c.rows(rs, "id", "dag_id", "from_date", "to_date", "is_paused", "created_at", "completed_at")
		},
	}
	cmd.Flags().StringVar(&dag, "dag-id", "", "only those of this DAG")
	cmd.Flags().BoolVar(&active, "active", false, "only those that are not completed")
	return cmd
}

// backfillID reads the id of a backfill.
func backfillID(s string) (int64, error) {
	id, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, usagef("BACKFILL_ID %q is no number: expected one of `gust backfill list`", s)
	}
	return id, nil
}

func (c *command) backfillPause(pause bool) *cobra.Command {
	verb, short := "unpause", "Let the runs of a backfill start again"
	if pause {
		verb, short = "pause", "Start no more runs of a backfill; what runs goes on"
	}
	return &cobra.Command{
		Use: verb + " BACKFILL_ID", Short: short, Args: cobra.ExactArgs(1),
		Example: fmt.Sprintf("  gust backfill %s 3", verb),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			id, err := backfillID(args[0])
			if err != nil {
				return err
			}
			a, err := c.open(ctx)
			if err != nil {
				return err
			}
			b, err := a.Engine.PauseBackfill(ctx, id, pause)
			if err != nil {
				return fmt.Errorf("backfill %d: %w", id, err)
			}
			if err := c.notify(ctx, a, localapp.Notice{Discover: true, Dags: []airflow.DagID{b.DagID}}); err != nil {
				return err
			}
			return c.rows([]row{backfillRow(b)}, "id", "dag_id", "is_paused")
		},
	}
}

func (c *command) backfillCancel() *cobra.Command {
	return &cobra.Command{
		Use: "cancel BACKFILL_ID", Short: "End a backfill: its queued runs fail, running ones go on", Args: cobra.ExactArgs(1),
		Example: "  gust backfill cancel 3",
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			id, err := backfillID(args[0])
			if err != nil {
				return err
			}
			a, err := c.open(ctx)
			if err != nil {
				return err
			}
			// A running server must not start runs while they are being ended.
			if _, err := a.Engine.PauseBackfill(ctx, id, true); err != nil {
				return fmt.Errorf("backfill %d: %w", id, err)
			}
			if err := c.notify(ctx, a, localapp.Notice{Discover: true}); err != nil {
				return err
			}
			b, err := a.Engine.CancelBackfill(ctx, id, c.env.User)
			if err != nil {
				return fmt.Errorf("backfill %d: %w", id, err)
			}
			n := localapp.Notice{Discover: true, Dags: []airflow.DagID{b.DagID}}
			if err := eachRun(ctx, a, b.DagID, func(r airflow.DagRun) bool {
				if r.BackfillID == id {
					n.Runs = append(n.Runs, store.RunKey{DagID: r.DagID, RunID: r.RunID})
				}
				return true
			}); err != nil {
				return err
			}
			if err := c.notify(ctx, a, n); err != nil {
				return err
			}
			return c.rows([]row{backfillRow(b)}, "id", "dag_id", "completed_at")
		},
	}
}
