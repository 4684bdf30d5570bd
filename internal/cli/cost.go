package cli

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/awsmeter/costreport"
	"github.com/gustflow/gust/internal/awsmeter/prices"
	"github.com/gustflow/gust/internal/awsmeter/runfacts"
	"github.com/gustflow/gust/internal/store"
)

func (c *command) costCommands() []*cobra.Command { return []*cobra.Command{c.cost()} }

func (c *command) cost() *cobra.Command {
	var logs []string
	cmd := &cobra.Command{
		Use: "cost DAG_ID RUN_ID", Short: "Say what a run cost on AWS, or would have cost there, item by item", Args: cobra.ExactArgs(2),
		Long: `Says what a run cost in US dollars, item by item and task by task.

On AWS every function logs what it used in one line per invocation; with --logs those lines are added up: a file of log lines, or what
"aws logs filter-log-events" prints. Without --logs the cost on AWS is estimated from what the store of this home remembers of the run.
Prices are list prices of one dated table, without free tiers.`,
		Example: `  gust cost etl manual__2026-03-04T05:06:07+00:00
  gust cost etl my_run -o json
  aws logs filter-log-events --log-group-name /aws/lambda/gust-worker --filter-pattern '{ $.gust_usage.v = 1 }' | gust cost etl my_run --logs -`,
	}
	cmd.Flags().StringArrayVar(&logs, "logs", nil, "file with lines of the functions' logs, - for standard input; may be given several times")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var r costreport.Report
		var err error
		if len(logs) > 0 {
			r, err = c.costOfLogs(args[0], args[1], logs)
		} else {
			r, err = c.costEstimate(cmd.Context(), args[0], args[1])
		}
		if err != nil {
			return err
		}
		return c.printCost(r)
	}
	return cmd
}

func (c *command) costOfLogs(dag, run string, files []string) (costreport.Report, error) {
	col := costreport.Collector{DagID: dag, RunID: run}
	lines := 0
	for _, name := range files {
		f := c.env.Stdin
		if name != "-" {
			file, err := os.Open(name)
			if err != nil {
				return costreport.Report{}, err
			}
			defer file.Close()
			f = file
		}
		n, err := col.Read(f, prices.Default())
		if err != nil {
			return costreport.Report{}, fmt.Errorf("%s: %w", name, err)
		}
		lines += n
	}
	if col.Lines() == 0 {
		return costreport.Report{}, fmt.Errorf("%w: none of the %d usage lines in %s is of run %s of DAG %s: give the logs of all functions, from the time of the run", airflow.ErrNotFound, lines, strings.Join(files, ", "), run, dag)
	}
	return col.Report("metered", prices.Default(), fmt.Sprintf("from %d lines of function logs; without free tiers, storage, and what is billed while nothing runs", col.Lines())), nil
}

func (c *command) costEstimate(ctx context.Context, dag, run string) (costreport.Report, error) {
	a, err := c.open(ctx)
	if err != nil {
		return costreport.Report{}, err
	}
	if _, err := c.dag(ctx, a, dag); err != nil {
		return costreport.Report{}, err
	}
	f, err := runfacts.Of(ctx, a.Store, a.Engine, store.RunKey{DagID: airflow.DagID(dag), RunID: airflow.RunID(run)})
	if err != nil {
		return costreport.Report{}, missing(err, "run %s of DAG %s does not exist", run, dag)
	}
	return costreport.Estimate(f, costreport.DefaultModel(), prices.Default()), nil
}

func (c *command) printCost(r costreport.Report) error {
	if c.output == "json" || c.output == "yaml" {
		return one(c, r, nil)
	}
	perTask := ""
	if r.Instances > 0 {
		perTask = fmt.Sprintf(", $%.2f per million task instances", r.USD/float64(r.Instances)*1e6)
	}
	c.say("Run %s of DAG %s: $%.8f (%s)%s", r.RunID, r.DagID, r.USD, r.Source, perTask)
	err := render(c, r.Items, []col[costreport.Item]{
		{"item", func(i costreport.Item) string { return string(i.Item) }},
		{"quantity", func(i costreport.Item) string { return quantity(i.Quantity) }},
		{"unit", func(i costreport.Item) string { return i.Unit }},
		{"usd", func(i costreport.Item) string { return fmt.Sprintf("%.8f", i.USD) }},
	})
	if err != nil {
		return err
	}
	c.say("")
	err = render(c, r.Tasks, []col[costreport.Task]{
		{"task_id", func(t costreport.Task) string {
			if t.TaskID == "" {
				return "(the run itself)"
			}
			return t.TaskID
		}},
		{"instances", func(t costreport.Task) string {
			if t.TaskID == "" {
				return ""
			}
			return fmt.Sprint(t.Instances)
		}},
		{"usd", func(t costreport.Task) string { return fmt.Sprintf("%.8f", t.USD) }},
	})
	if err != nil {
		return err
	}
	c.say("")
	c.say("Prices: %s.", r.Prices)
	for _, n := range r.Notes {
		c.say("%s.", strings.ToUpper(n[:1])+n[1:])
	}
	return nil
}

// quantity prints a number with as many digits as say something.
func quantity(q float64) string {
	if q == float64(int64(q)) {
		return fmt.Sprintf("%d", int64(q))
	}
	return fmt.Sprintf("%.4g", q)
}
