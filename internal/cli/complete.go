package cli

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/localapp"
	"github.com/gustflow/gust/internal/store"
)

// completionTime bounds how long a shell waits for suggestions.
const completionTime = 2 * time.Second

// addCompletions lets the shell complete arguments by the words with which the
// commands name them: DAG_ID, TASK_ID, RUN_ID, CONN_ID …
func (c *command) addCompletions(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		c.addCompletions(sub)
	}
	words := strings.Fields(cmd.Use)
	if len(words) < 2 || cmd.HasSubCommands() || cmd.ValidArgsFunction != nil {
		return
	}
	parent := ""
	if cmd.Parent() != nil {
		parent = cmd.Parent().Name()
	}
	kinds := words[1:]
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= len(kinds) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		kind := strings.Trim(kinds[len(args)], "[].")
		if kind == "FILE" || kind == "PATH" {
			return nil, cobra.ShellCompDirectiveDefault
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTime)
		defer cancel()
		var out []string
		for _, s := range c.candidates(ctx, parent, kind, args) {
			if strings.HasPrefix(s, prefix) {
				out = append(out, s)
			}
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}

// candidates returns what an argument of a kind could be. Completion never
// fails: without a home, or with a broken one, there are no suggestions.
func (c *command) candidates(ctx context.Context, parent, kind string, args []string) []string {
	// Completing must not create a home.
	if _, err := os.Stat(filepath.Join(c.home, filepath.Base(localapp.Home(c.home).Database()))); err != nil {
		return nil
	}
	a, err := c.open(ctx)
	if err != nil {
		return nil
	}
	var out []string
	switch kind {
	case "DAG_ID", "DAG":
		ms, _, _ := a.Store.ListDags(ctx, store.ListOptions{})
		for _, m := range ms {
			out = append(out, string(m.DagID))
		}
	case "TASK_ID", "TASK":
		if len(args) == 0 {
			return nil
		}
		m, err := a.Store.GetDag(ctx, airflow.DagID(args[0]))
		if err != nil {
			return nil
		}
		if g, err := a.Engine.Graph(ctx, m.LatestHash); err == nil {
			for _, t := range g.DAG.Tasks {
				out = append(out, string(t.TaskID))
			}
		}
	case "RUN_ID", "RUN", "LOGICAL_DATE_OR_RUN_ID":
		if len(args) == 0 {
			return nil
		}
		rs, _, _ := a.Store.ListRuns(ctx, airflow.DagID(args[0]), store.ListOptions{Descending: true, Limit: 50})
		for _, r := range rs {
			out = append(out, string(r.RunID))
		}
	case "CONN_ID":
		cs, _ := a.Store.ListConnections(ctx)
		for _, conn := range cs {
			out = append(out, conn.ConnID)
		}
	case "KEY":
		if parent != "variables" {
			return nil
		}
		vs, _ := a.Store.ListVariables(ctx)
		for _, v := range vs {
			out = append(out, v.Key)
		}
	case "NAME":
		if parent != "pools" {
			return nil
		}
		ps, _ := a.Store.ListPools(ctx)
		for _, p := range ps {
			out = append(out, p.Name)
		}
	}
	return out
}
