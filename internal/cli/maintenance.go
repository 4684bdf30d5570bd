package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gustflow/gust/internal/localapp"
)

// maintenanceCommands are the verbs that look after an installation.
func (c *command) maintenanceCommands() []*cobra.Command {
	return []*cobra.Command{c.db(), c.jobs(), c.providers(), c.plugins()}
}

// component is a part of the server that Airflow runs as a job of its own.
type component struct{ jobType, inServer string }

var components = []component{{"SchedulerJob", "scheduler"}, {"TriggererJob", "scheduler"}, {"DagProcessorJob", "dag_processor"}}

// jobs answers health checks of containers: `airflow jobs check --job-type …`.
func (c *command) jobs() *cobra.Command {
	var jobType, hostname string
	var local, multiple bool
	var limit int
	check := leaf("check", "Check whether the server of this home is alive", "  gust jobs check --job-type SchedulerJob --local", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		if jobType != "" && !slices.ContainsFunc(components, func(x component) bool { return x.jobType == jobType }) && jobType != "LocalTaskJob" {
			return usagef("--job-type %q is unknown: expected SchedulerJob, TriggererJob or DagProcessorJob", jobType)
		}
		h, err := localapp.OpenHome(c.home)
		if err != nil {
			return err
		}
		if !h.ServerRunning(ctx) {
			return fmt.Errorf("no alive jobs found: no server answers on %s", h.Socket())
		}
		c.say("Found one alive job: the server of %s", h)
		return nil
	})
	fl := check.Flags()
	fl.StringVar(&jobType, "job-type", "", "SchedulerJob, TriggererJob or DagProcessorJob: the one server does all three")
	fl.StringVar(&hostname, "hostname", "", "accepted for Airflow's sake: a home has one server, on this machine")
	fl.BoolVar(&local, "local", false, "as --hostname with the name of this machine")
	fl.IntVar(&limit, "limit", 1, "accepted for Airflow's sake")
	fl.BoolVar(&multiple, "allow-multiple", false, "accepted for Airflow's sake")
	return group("jobs", "Check the server", check)
}

// providers lists what stands for Airflow's provider packages.
func (c *command) providers() *cobra.Command {
	list := leaf("list", "List the provider packages whose operators run here", "  gust providers list -o json", cobra.NoArgs, func(context.Context, []string) error {
		byPackage := map[string]int{}
		var names []string
		for _, class := range localapp.Operators().Classes() {
			p := providerOf(class)
			if p == "" {
				continue
			}
			if byPackage[p] == 0 {
				names = append(names, p)
			}
			byPackage[p]++
		}
		slices.Sort(names)
		var rs []row
		for _, n := range names {
			rs = append(rs, row{{"package_name", n}, {"description", fmt.Sprintf("built in: %d operators", byPackage[n])}, {"operators", byPackage[n]}})
		}
		return c.rows(rs, "package_name", "description")
	})
	return group("providers", "Display providers", list)
}

// providerOf returns the provider package of a class path, "" for what is none's.
func providerOf(class string) string {
	rest, ok := strings.CutPrefix(class, "airflow.providers.")
	if !ok {
		return ""
	}
	for _, end := range []string{".operators.", ".sensors.", ".decorators.", ".triggers.", ".hooks."} {
		if i := strings.Index(rest, end); i > 0 {
			return "apache-airflow-providers-" + strings.ReplaceAll(rest[:i], ".", "-")
		}
	}
	return ""
}

func (c *command) plugins() *cobra.Command {
	return leaf("plugins", "List plugins: there are none, Gust loads no code into its server", "  gust plugins -o json", cobra.NoArgs, func(context.Context, []string) error {
		if c.output == "table" || c.output == "plain" {
			c.say("No plugins loaded: Gust loads no code into its server. Python modules below <dags folder>/plugins can be imported by Python tasks.")
			return nil
		}
		return c.rows(nil)
	})
}
