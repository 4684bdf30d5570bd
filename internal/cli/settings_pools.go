package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/localapp"
)

func (c *command) pools() *cobra.Command {
	return group("pools", "Manage pools", c.poolsList(), c.poolsGet(), c.poolsSet(), c.poolsDelete(), c.poolsImport(), c.poolsExport())
}

// poolRow is a pool as Airflow's CLI shows it. What is taken of it only the
// server knows; `gust explain` says which task waits for which pool.
func poolRow(p engine.PoolUsage) row {
	return row{{"pool", p.Name}, {"slots", p.Slots}, {"description", p.Description}, {"include_deferred", p.IncludeDeferred}}
}

// openPools opens the home and makes sure that the default pool is there, as a
// server's first start would.
func (c *command) openPools(ctx context.Context) (*localapp.App, error) {
	a, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	return a, a.EnsurePools(ctx)
}

func (c *command) poolsList() *cobra.Command {
	return leaf("list", "List pools", "  gust pools list -o json", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		a, err := c.openPools(ctx)
		if err != nil {
			return err
		}
		ps, err := a.Engine.Pools(ctx)
		if err != nil {
			return err
		}
		var rs []row
		for _, p := range ps {
			rs = append(rs, poolRow(p))
		}
		return c.rows(rs)
	})
}

func (c *command) poolsGet() *cobra.Command {
	return leaf("get NAME", "Show a pool", "  gust pools get default_pool", cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
		a, err := c.openPools(ctx)
		if err != nil {
			return err
		}
		p, err := a.Store.GetPool(ctx, args[0])
		if err != nil {
			return missing(err, "pool %s does not exist", args[0])
		}
		return c.rows([]row{poolRow(engine.PoolUsage{Pool: p})})
	})
}

func (c *command) poolsSet() *cobra.Command {
	var deferred, unlimited bool
	// "-1" reads as a flag: it is one, so that it need not be written after "--".
	three := func(cmd *cobra.Command, args []string) error {
		if unlimited {
			return cobra.ExactArgs(2)(cmd, args)
		}
		return cobra.ExactArgs(3)(cmd, args)
	}
	cmd := leaf("set NAME SLOTS DESCRIPTION", "Create or change a pool", "  gust pools set warehouse 4 'at most 4 queries at once'\n  gust pools set wide -1 'no limit'", three, func(ctx context.Context, args []string) error {
		if unlimited {
			args = []string{args[0], "-1", args[1]}
		}
		slots, err := strconv.Atoi(args[1])
		if err != nil {
			return usagef("slots %q: expected a whole number, -1 for no limit", args[1])
		}
		p := airflow.Pool{Name: args[0], Slots: slots, Description: args[2], IncludeDeferred: deferred}
		if err := checkPool(p); err != nil {
			return usageError{err}
		}
		a, err := c.openPools(ctx)
		if err != nil {
			return err
		}
		if err := c.putPools(ctx, a, p); err != nil {
			return err
		}
		return c.rows([]row{poolRow(engine.PoolUsage{Pool: p})})
	})
	cmd.Flags().BoolVar(&deferred, "include-deferred", false, "deferred tasks keep their slots")
	cmd.Flags().BoolVarP(&unlimited, "unlimited", "1", false, "no limit, as SLOTS -1")
	_ = cmd.Flags().MarkHidden("unlimited")
	return cmd
}

func checkPool(p airflow.Pool) error {
	switch {
	case p.Name == "" || len(p.Name) > 250:
		return fmt.Errorf("pool name %q: expected 1 to 250 characters", p.Name)
	case p.Slots < airflow.UnlimitedSlots:
		return fmt.Errorf("pool %s: %d slots: expected 0 or more, or -1 for no limit", p.Name, p.Slots)
	}
	return nil
}

func (c *command) putPools(ctx context.Context, a *localapp.App, ps ...airflow.Pool) error {
	for _, p := range ps {
		if err := a.Engine.PutPool(ctx, p); err != nil {
			return fmt.Errorf("pool %s: %w", p.Name, err)
		}
		c.audit(ctx, a, "cli_pool_set", map[string]string{"pool": p.Name, "slots": strconv.Itoa(p.Slots)})
	}
	return c.notify(ctx, a, localapp.Notice{Pools: true})
}

func (c *command) poolsDelete() *cobra.Command {
	return leaf("delete NAME", "Delete a pool", "  gust pools delete warehouse", cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
		a, err := c.openPools(ctx)
		if err != nil {
			return err
		}
		p, err := a.Store.GetPool(ctx, args[0])
		if err == nil {
			err = a.Engine.DeletePool(ctx, args[0])
		}
		if errors.Is(err, airflow.ErrNotAllowed) {
			return fmt.Errorf("pool %s cannot be deleted", args[0])
		}
		if err != nil {
			return missing(err, "pool %s does not exist", args[0])
		}
		c.audit(ctx, a, "cli_pool_delete", map[string]string{"pool": args[0]})
		if err := c.notify(ctx, a, localapp.Notice{Pools: true}); err != nil {
			return err
		}
		return c.rows([]row{poolRow(engine.PoolUsage{Pool: p})})
	})
}

// poolFile is a pool in Airflow's import and export files.
type poolFile struct {
	Slots           *int   `json:"slots"`
	Description     string `json:"description"`
	IncludeDeferred bool   `json:"include_deferred"`
}

func (c *command) poolsImport() *cobra.Command {
	return leaf("import FILE", "Import pools from a JSON file", `  gust pools import pools.json     {"warehouse": {"slots": 4, "description": "", "include_deferred": false}}`, cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
		b, err := c.importFile(args[0])
		if err != nil {
			return err
		}
		ps, err := parsePools(args[0], b)
		if err != nil {
			return err
		}
		a, err := c.openPools(ctx)
		if err != nil {
			return err
		}
		if err := c.putPools(ctx, a, ps...); err != nil {
			return err
		}
		c.say("Uploaded %d pool(s)", len(ps))
		return nil
	})
}

// parsePools reads a file of pools, sorted by name; all problems are reported.
func parsePools(name string, b []byte) ([]airflow.Pool, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(b, &raw); err != nil {
		return nil, fmt.Errorf("%s is not a JSON object from pool to {slots, description, include_deferred}: %w", name, err)
	}
	var ps []airflow.Pool
	var problems []airflow.Problem
	for pool, v := range raw {
		var f poolFile
		dec := json.NewDecoder(bytes.NewReader(v))
		dec.DisallowUnknownFields()
		err := dec.Decode(&f)
		if err == nil && f.Slots == nil {
			err = errors.New("slots is missing")
		}
		if err == nil {
			p := airflow.Pool{Name: pool, Slots: *f.Slots, Description: f.Description, IncludeDeferred: f.IncludeDeferred}
			ps = append(ps, p)
			err = checkPool(p)
		}
		if err != nil {
			problems = append(problems, airflow.Problem{File: name, Field: pool, Message: err.Error() + ": expected {\"slots\": 4, \"description\": \"\", \"include_deferred\": false}"})
		}
	}
	if len(problems) > 0 {
		sort.Slice(problems, func(i, j int) bool { return problems[i].Field < problems[j].Field })
		return nil, &airflow.InvalidError{Problems: problems}
	}
	sort.Slice(ps, func(i, j int) bool { return ps[i].Name < ps[j].Name })
	return ps, nil
}

func (c *command) poolsExport() *cobra.Command {
	return leaf("export FILE", "Export all pools as JSON", "  gust pools export pools.json\n  gust pools export -            to standard output", cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
		a, err := c.openPools(ctx)
		if err != nil {
			return err
		}
		ps, err := a.Store.ListPools(ctx)
		if err != nil {
			return err
		}
		out := map[string]poolFile{}
		for _, p := range ps {
			out[p.Name] = poolFile{&p.Slots, p.Description, p.IncludeDeferred}
		}
		return c.exportObject(args[0], out, "Exported %d pools to %s", len(ps), args[0])
	})
}
