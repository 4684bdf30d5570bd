package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/dagprocessor"
	"github.com/gustflow/gust/internal/localapp"
	"github.com/gustflow/gust/internal/timetable"
)

func (c *command) dagsValidate() *cobra.Command {
	var root, format string
	var strict bool
	cmd := &cobra.Command{
		Use: "validate PATH...", Short: "Check DAG files or folders, for continuous integration", Args: cobra.MinimumNArgs(1),
		Long: `Loads DAG files as the server would and reports every problem with file, line
and column. It needs no home and changes nothing. Ends with 1 if a file has
problems, with --strict also for warnings.`,
		Example: `  gust dags validate dags/
  gust dags validate dags/etl.yml --root dags -o json
  gust dags validate dags/ --format github     annotations in a workflow`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if format != "text" && format != "github" {
				return usagef("--format %q is unknown: expected text or github", format)
			}
			cfg, err := c.config()
			if err != nil {
				return err
			}
			folder := root
			if folder == "" {
				folder = args[0]
				if st, err := os.Stat(folder); err == nil && !st.IsDir() {
					folder = filepath.Dir(folder)
				}
			}
			abs, err := filepath.Abs(folder)
			if err != nil {
				return err
			}
			reports, err := dagprocessor.Validate(cmd.Context(), dagprocessor.ValidateConfig{Loader: c.loader(cfg, abs), Root: root, Scan: scanOptions(cfg), LoadTimeout: cfg.Core.DagbagImportTimeout}, args)
			if err != nil {
				return err
			}
			problems, warnings, dags := 0, 0, 0
			for _, r := range reports {
				problems += len(r.Problems)
				warnings += len(r.Warnings)
				dags += len(r.Dags)
			}
			switch {
			case c.output == "json":
				err = writeJSON(c.env.Stdout, reports)
			case c.output == "yaml":
				err = writeYAML(c.env.Stdout, reports)
			case format == "github":
				err = dagprocessor.WriteGitHub(c.env.Stdout, reports)
			default:
				for _, r := range reports {
					for _, p := range r.Problems {
						c.say("%s %s", c.paint("error", "\x1b[31m"), p)
					}
					for _, p := range r.Warnings {
						c.say("%s %s", c.paint("warning", "\x1b[33m"), p)
					}
				}
				c.say("%d files, %d DAGs, %d problems, %d warnings", len(reports), dags, problems, warnings)
			}
			if err != nil {
				return err
			}
			if problems > 0 || strict && warnings > 0 {
				return exitError(ExitFailed)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&root, "root", "", "the DAG folder that the files belong to (default: PATH)")
	cmd.Flags().StringVar(&format, "format", "text", "text or github (workflow annotations)")
	cmd.Flags().BoolVar(&strict, "strict", false, "warnings are failures")
	return cmd
}

func (c *command) dagsReport() *cobra.Command {
	return &cobra.Command{
		Use: "report", Short: "Show how long each DAG file takes to load", Args: cobra.NoArgs,
		Example: "  gust dags report -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := c.config()
			if err != nil {
				return err
			}
			reports, err := dagprocessor.Validate(cmd.Context(), dagprocessor.ValidateConfig{Loader: c.loader(cfg, cfg.Core.DagsFolder), Scan: scanOptions(cfg), Root: cfg.Core.DagsFolder}, []string{cfg.Core.DagsFolder})
			if err != nil {
				return err
			}
			return render(c, dagprocessor.Report(reports), []col[dagprocessor.FileStats]{
				{"file", func(s dagprocessor.FileStats) string { return s.File }},
				{"duration", func(s dagprocessor.FileStats) string { return dagprocessor.Timedelta(s.Duration) }},
				{"dag_num", func(s dagprocessor.FileStats) string { return fmt.Sprint(s.DagNum) }},
				{"task_num", func(s dagprocessor.FileStats) string { return fmt.Sprint(s.TaskNum) }},
				{"dags", func(s dagprocessor.FileStats) string {
					var ids []string
					for _, d := range s.Dags {
						ids = append(ids, string(d))
					}
					return strings.Join(ids, ",")
				}},
			})
		},
	}
}

func (c *command) dagsReserialize() *cobra.Command {
	return &cobra.Command{
		Use: "reserialize", Short: "Read the whole DAG folder again and register what it holds", Args: cobra.NoArgs,
		Example: "  gust dags reserialize",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			a, err := c.open(ctx)
			if err != nil {
				return err
			}
			server, err := a.Home.Ask(ctx, localapp.Notice{Reparse: true})
			if err != nil {
				return err
			}
			if server != nil && server.DagsFolder != "" {
				if c.output == "json" || c.output == "yaml" {
					return c.rows([]row{{{"requested", true}, {"dags_folder", server.DagsFolder}}})
				}
				c.say("The server was asked to read %s again", server.DagsFolder)
				return nil
			}
			paused := a.Options.PausedAtCreation
			p, err := dagprocessor.New(dagprocessor.Config{
				Folder: a.Options.DagsFolder, Store: a.Store, Bundles: a.Bundles, Loader: a.Options.Loader, PausedAtCreation: paused, StaleThreshold: -1, Scan: a.Options.Scan,
			})
			if err != nil {
				return err
			}
			s, err := p.Sync(ctx)
			if err != nil {
				return err
			}
			if server != nil { // a scheduler that leaves DAG files to others
				if err := c.notify(ctx, a, localapp.Notice{Dags: s.Changed}); err != nil {
					return err
				}
			}
			if c.output == "json" || c.output == "yaml" {
				return c.rows([]row{{{"files", s.Files}, {"dags", s.Dags}, {"changed", s.Changed}, {"stale", s.Stale}, {"import_errors", s.ImportErrors}}})
			}
			c.say("%d DAGs from %d files in %s: %d new or changed, %d stale, %d files with import errors", s.Dags, s.Files, a.Options.DagsFolder, len(s.Changed), len(s.Stale), s.ImportErrors)
			return nil
		},
	}
}

func (c *command) dagsNextExecution() *cobra.Command {
	var n int
	var table bool
	var field string
	cmd := &cobra.Command{
		Use: "next-execution DAG_ID", Short: "Show the next logical dates of a DAG", Args: cobra.ExactArgs(1),
		Example: `  gust dags next-execution my_dag
  gust dags next-execution my_dag -n 5 --table
  gust dags next-execution my_dag --field run_after`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if table && field != "" {
				return usagef("--table and --field cannot be used together")
			}
			keys := []string{"logical_date", "data_interval.start", "data_interval.end", "run_after"}
			if field != "" {
				if err := columns([]string{field}, keys); err != nil {
					return err
				}
			}
			if n < 1 {
				return usagef("--num-executions %d: expected at least 1", n)
			}
			a, err := c.open(cmd.Context())
			if err != nil {
				return err
			}
			m, err := c.dag(cmd.Context(), a, args[0])
			if err != nil {
				return err
			}
			g, err := a.Engine.Graph(cmd.Context(), m.LatestHash)
			if err != nil {
				return err
			}
			infos, err := nextRuns(g.DAG, m, n, c.env.Now())
			if err != nil {
				return err
			}
			if m.IsPaused {
				c.hint("[INFO] Please be reminded this DAG is PAUSED now.")
			}
			if len(infos) < n {
				c.hint("[WARN] No following schedule can be found. This DAG may have schedule interval '@once' or `None`.")
			}
			var rs []row
			for _, i := range infos {
				r := row{{"logical_date", iso(i.LogicalDate)}, {"data_interval.start", ""}, {"data_interval.end", ""}, {"run_after", iso(&i.RunAfter)}}
				if i.DataInterval != nil {
					r[1].value, r[2].value = iso(&i.DataInterval.Start), iso(&i.DataInterval.End)
				}
				rs = append(rs, r)
			}
			if table || c.output == "json" || c.output == "yaml" {
				return c.rows(rs, keys...)
			}
			if field == "" {
				field = "logical_date"
			}
			for _, r := range rs {
				v, _ := r.get(field)
				c.say("%s", v)
			}
			if len(infos) < n {
				c.say("None")
			}
			return nil
		},
	}
	cmd.Flags().IntVarP(&n, "num-executions", "n", 1, "how many to show")
	cmd.Flags().BoolVar(&table, "table", false, "show all dates of each")
	cmd.Flags().StringVar(&field, "field", "", "the date to show: logical_date, data_interval.start, data_interval.end or run_after")
	return cmd
}

// nextRuns returns the next scheduled runs of a DAG: the one that is planned,
// and those its timetable makes after it.
func nextRuns(d *airflow.DAG, m airflow.DagModel, n int, now time.Time) ([]timetable.RunInfo, error) {
	tt, err := timetable.Parse(d.Timetable)
	if err != nil {
		return nil, err
	}
	dates := timetable.Dag{StartDate: d.StartDate, EndDate: d.EndDate, Catchup: d.Catchup, MaxActiveRuns: d.MaxActiveRuns}
	for _, t := range d.Tasks {
		dates.Tasks = append(dates.Tasks, timetable.TaskDates{StartDate: t.StartDate, EndDate: t.EndDate})
	}
	within := timetable.Restrict(dates)
	var last *timetable.DataInterval
	if m.LastAutomatedIntervalStart != nil && m.LastAutomatedIntervalEnd != nil {
		last = &timetable.DataInterval{Start: *m.LastAutomatedIntervalStart, End: *m.LastAutomatedIntervalEnd}
	}
	var out []timetable.RunInfo
	for len(out) < n {
		info, err := tt.NextRunInfo(last, within, now)
		if err != nil || info == nil {
			return out, err
		}
		out = append(out, *info)
		if info.DataInterval == nil {
			break
		}
		// As Airflow: what follows the next run is shown with catchup.
		last, within = info.DataInterval, timetable.Restriction{Latest: within.Latest, Catchup: true}
	}
	return out, nil
}
