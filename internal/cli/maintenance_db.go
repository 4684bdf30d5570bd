package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/localapp"
	"github.com/gustflow/gust/internal/retention"
)

func (c *command) db() *cobra.Command {
	return group("db", "Look after the store", c.dbCheck(), c.dbMigrate(), c.dbCheckMigrations(), c.dbClean(), c.dbExportArchived(), c.dbDropArchived())
}

func (c *command) dbCheck() *cobra.Command {
	var retry int
	var delay float64
	cmd := leaf("check", "Check that the store can be read and written", "  gust db check\n  gust db check --retry 5 --retry-delay 1", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		for try := 0; ; try++ {
			a, err := c.openPools(ctx)
			if err == nil {
				var p airflow.Pool
				if p, err = a.Store.GetPool(ctx, airflow.DefaultPool); err == nil {
					err = a.Store.PutPool(ctx, p) // what was read, written back
				}
			}
			if err == nil {
				if c.output == "json" || c.output == "yaml" {
					return c.details(row{{"store", a.Home.Database()}, {"status", "healthy"}})
				}
				c.say("Connection successful: %s", a.Home.Database())
				return nil
			}
			if try >= retry {
				return err
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Duration(delay * float64(time.Second))):
			}
		}
	})
	cmd.Flags().IntVar(&retry, "retry", 0, "how often to try again")
	cmd.Flags().Float64Var(&delay, "retry-delay", 1, "seconds between two tries")
	return cmd
}

func (c *command) dbMigrate() *cobra.Command {
	return leaf("migrate", "Create the store, or bring it to this version", "  gust db migrate", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		a, err := c.openPools(ctx)
		if err != nil {
			return err
		}
		c.say("Database migrating done!  %s is ready for this version", a.Home.Database())
		return nil
	})
}

func (c *command) dbCheckMigrations() *cobra.Command {
	var timeout int
	cmd := leaf("check-migrations", "Check that the store can be used by this version", "  gust db check-migrations", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		_, err := c.open(ctx)
		return err
	})
	cmd.Flags().IntVarP(&timeout, "migration-wait-timeout", "t", 60, "accepted for Airflow's sake: opening the store migrates it")
	return cmd
}

type cleanFlags struct {
	before                   string
	tables, dags, except     []string
	dryRun, skipArchive, yes bool
	batch                    int
	failOnError              bool
}

func (c *command) dbClean() *cobra.Command {
	var f cleanFlags
	cmd := leaf("clean", "Remove finished runs, task logs and other data that are older than a date",
		`  gust db clean --clean-before-timestamp 2026-01-01 --dry-run
  gust db clean --clean-before-timestamp 2026-01-01 --tables dag_run,task_log -y
  gust db clean --dry-run                 what the configured retention would remove`, cobra.NoArgs,
		func(ctx context.Context, _ []string) error { return c.clean(ctx, f) })
	cmd.Long = `Remove data that are older than a date: runs that ended before it with all that belongs to them, log files last
written before it, audit and asset events, and DAG documents and file snapshots that nothing refers to any more.

Unfinished runs and the newest run of each DAG that was not triggered by hand stay. Rows are kept as JSON lines in
<home>/archive unless --skip-archive is given; gust db export-archived and drop-archived look after them. Documents
and snapshots are removed an hour after they were first found unused.

Without --clean-before-timestamp the configured retention ([gust] dag_run_retention_days, log_retention_days,
xcom_retention_days, retention_overrides) is applied, as the server does by itself.

Tables: ` + strings.Join(tableNames(), ", ") + `.`
	fl := cmd.Flags()
	fl.StringVar(&f.before, "clean-before-timestamp", "", "remove what is older than this date")
	fl.StringSliceVarP(&f.tables, "tables", "t", nil, "only these tables, divided by commas")
	fl.StringSliceVar(&f.dags, "dag-ids", nil, "only data of these DAGs")
	fl.StringSliceVar(&f.except, "exclude-dag-ids", nil, "no data of these DAGs")
	fl.BoolVar(&f.dryRun, "dry-run", false, "show what would be removed")
	fl.BoolVar(&f.skipArchive, "skip-archive", false, "do not keep the removed rows")
	fl.BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	fl.IntVar(&f.batch, "batch-size", 100, "how many runs are archived and removed at once")
	fl.BoolVar(&f.failOnError, "error-on-cleanup-failure", true, "accepted for Airflow's sake: errors always fail the command")
	return cmd
}

func tableNames() []string {
	var out []string
	for _, t := range retention.Tables {
		out = append(out, string(t))
	}
	return out
}

// cleanTables reads --tables; nil = all.
func (c *command) cleanTables(names []string) ([]retention.Table, error) {
	if names == nil {
		return nil, nil
	}
	tables := []retention.Table{}
	for _, n := range names {
		n = strings.TrimSpace(n)
		if why, ok := retention.EmptyTables[n]; ok {
			c.hint("table %s: nothing to clean, %s", n, why)
			continue
		}
		if !slices.Contains(tableNames(), n) {
			return nil, usagef("table %q is unknown: expected some of %s", n, strings.Join(tableNames(), ", "))
		}
		tables = append(tables, retention.Table(n))
	}
	return tables, nil
}

func dagIDs(names []string) []airflow.DagID {
	var out []airflow.DagID
	for _, n := range names {
		out = append(out, airflow.DagID(n))
	}
	return out
}

func (c *command) clean(ctx context.Context, f cleanFlags) error {
	tables, err := c.cleanTables(f.tables)
	if err != nil {
		return err
	}
	cfg, err := c.config()
	if err != nil {
		return err
	}
	before, err := c.parseDate("--clean-before-timestamp", f.before)
	if err != nil {
		return err
	}
	now := c.env.Now().UTC()
	var q retention.Request
	what := "older than the configured retention"
	if before != nil {
		if before.After(now) {
			return usagef("--clean-before-timestamp %s lies in the future", f.before)
		}
		what = "older than " + iso(before)
		q.Before = func(retention.Table, airflow.DagID) time.Time { return *before }
		q.Tables = tables
	} else {
		p := retention.PolicyOf(cfg)
		if p.Off() {
			return usagef("--clean-before-timestamp is needed: no retention is configured ([gust] dag_run_retention_days, log_retention_days, xcom_retention_days)")
		}
		q = p.Request(now, tables)
	}
	q.Dags, q.Except, q.DryRun, q.BatchSize = dagIDs(f.dags), dagIDs(f.except), f.dryRun, f.batch
	a, err := c.open(ctx)
	if err != nil {
		return err
	}
	if !f.skipArchive {
		q.Archive = a.Home.Archive()
	}
	if !f.dryRun && !f.yes {
		preview := q
		preview.DryRun = true
		rs, err := a.Cleaner().Clean(ctx, preview)
		if err != nil {
			return err
		}
		var parts []string
		for _, r := range rs {
			if r.Rows > 0 {
				parts = append(parts, fmt.Sprintf("%d of %s", r.Rows, r.Table))
			}
		}
		if len(parts) == 0 {
			parts = []string{"nothing at present"}
		}
		kept := "They are kept in " + q.Archive + "."
		if f.skipArchive {
			kept = "They are gone for good."
		}
		if ok, err := c.confirm(false, "Remove what is %s: %s. %s Go on?", what, strings.Join(parts, ", "), kept); err != nil || !ok {
			if err == nil {
				err = errors.New("nothing was removed")
			}
			return err
		}
	}
	rs, err := a.Cleaner().Clean(ctx, q)
	if err != nil {
		c.hint("the cleaning stopped early; running it again does the rest")
		_ = c.cleanResults(rs, f.dryRun)
		return err
	}
	if !f.dryRun {
		c.audit(ctx, a, "cli_db_clean", map[string]string{"before": f.before, "tables": strings.Join(f.tables, ",")})
	}
	return c.cleanResults(rs, f.dryRun)
}

func (c *command) cleanResults(rs []retention.Result, dryRun bool) error {
	if dryRun {
		c.hint("dry run: nothing was removed; row_count is what would be")
	}
	var rows []row
	for _, r := range rs {
		rows = append(rows, row{{"table_name", r.Table}, {"row_count", r.Rows}, {"bytes", r.Bytes}, {"archive", r.Archive}})
	}
	return c.rows(rows, "table_name", "row_count", "bytes", "archive")
}

func (c *command) dbExportArchived() *cobra.Command {
	var format, dir string
	var tables []string
	var drop, yes bool
	cmd := leaf("export-archived", "Write what db clean has archived as CSV or JSON files", "  gust db export-archived --output-path /backup --export-format csv\n  gust db export-archived --output-path . --tables dag_run --drop-archives -y", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		if dir == "" {
			return usagef("--output-path is needed: the folder to write to")
		}
		if err := oneOf("--export-format", format, "csv", "json"); err != nil {
			return err
		}
		if fi, err := os.Stat(dir); err != nil || !fi.IsDir() {
			return fmt.Errorf("folder %s does not exist", dir)
		}
		as, err := c.archives(tables)
		if err != nil {
			return err
		}
		if drop {
			if ok, err := c.confirm(yes, "Remove %d archives after they were exported?", len(as)); err != nil || !ok {
				if err == nil {
					err = errors.New("nothing was exported")
				}
				return err
			}
		}
		var rs []row
		for _, a := range as {
			name := strings.TrimSuffix(filepath.Base(a.Path), ".jsonl") + "." + format
			n, err := exportArchive(a.Path, filepath.Join(dir, name), format)
			if err != nil {
				return fmt.Errorf("archive %s: %w", a.Path, err)
			}
			if drop {
				if err := os.Remove(a.Path); err != nil {
					return err
				}
			}
			rs = append(rs, row{{"table_name", a.Table}, {"archived_at", a.At}, {"row_count", n}, {"file", filepath.Join(dir, name)}})
		}
		return c.rows(rs)
	})
	fl := cmd.Flags()
	fl.StringVar(&format, "export-format", "csv", "csv or json")
	fl.StringVar(&dir, "output-path", "", "the folder to write to")
	fl.StringSliceVarP(&tables, "tables", "t", nil, "only these tables, divided by commas")
	fl.BoolVar(&drop, "drop-archives", false, "remove the archives afterwards")
	fl.BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

func (c *command) dbDropArchived() *cobra.Command {
	var tables []string
	var yes bool
	cmd := leaf("drop-archived", "Remove what db clean has archived", "  gust db drop-archived -y", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		as, err := c.archives(tables)
		if err != nil {
			return err
		}
		if len(as) > 0 {
			if ok, err := c.confirm(yes, "Remove %d archives for good?", len(as)); err != nil || !ok {
				if err == nil {
					err = errors.New("nothing was removed")
				}
				return err
			}
		}
		for _, a := range as {
			if err := os.Remove(a.Path); err != nil {
				return err
			}
		}
		c.say("Dropped %d archives", len(as))
		return nil
	})
	cmd.Flags().StringSliceVarP(&tables, "tables", "t", nil, "only these tables, divided by commas")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

// archives lists the archives of some tables, of all for nil.
func (c *command) archives(tables []string) ([]retention.Archived, error) {
	h, err := localapp.OpenHome(c.home)
	if err != nil {
		return nil, err
	}
	as, err := retention.ListArchives(h.Archive())
	if err != nil {
		return nil, err
	}
	for _, t := range tables {
		if !slices.Contains(tableNames(), t) {
			return nil, usagef("table %q is unknown: expected some of %s", t, strings.Join(tableNames(), ", "))
		}
	}
	return slices.DeleteFunc(as, func(a retention.Archived) bool { return tables != nil && !slices.Contains(tables, a.Table) }), nil
}

// exportArchive writes an archive as CSV (columns in the order of the first row,
// values that are no text as JSON) or as a JSON list.
func exportArchive(from, to, format string) (int, error) {
	in, err := os.Open(from)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer out.Close()
	w := bufio.NewWriter(out)
	n := 0
	columns, err := archiveColumns(from)
	if err != nil {
		return 0, err
	}
	table := csv.NewWriter(w)
	if format == "csv" {
		if err := table.Write(columns); err != nil {
			return 0, err
		}
	}
	lines := bufio.NewReader(in)
	for {
		line, rerr := lines.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 && rerr == nil { // a last line without end was cut short
			if format == "csv" {
				cells, err := csvRow(line, columns)
				if err == nil {
					err = table.Write(cells)
				}
				if err != nil {
					return n, err
				}
			} else {
				sep := ",\n"
				if n == 0 {
					sep = "[\n"
				}
				w.WriteString(sep)
				w.Write(bytes.TrimSpace(line))
			}
			n++
		}
		if rerr != nil {
			break
		}
	}
	if format == "json" {
		if n == 0 {
			w.WriteString("[")
		}
		w.WriteString("\n]\n")
	}
	table.Flush()
	return n, errors.Join(table.Error(), w.Flush(), out.Sync())
}

// archiveColumns are the keys of all rows, in the order in which they first appear.
func archiveColumns(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []string
	seen := map[string]bool{}
	r := bufio.NewReader(f)
	for {
		line, rerr := r.ReadBytes('\n')
		if rerr != nil {
			return out, nil
		}
		dec := json.NewDecoder(bytes.NewReader(line))
		if _, err := dec.Token(); err != nil {
			return nil, fmt.Errorf("a line is not JSON: %w", err)
		}
		for dec.More() {
			k, err := dec.Token()
			if err != nil {
				return nil, fmt.Errorf("a line is not JSON: %w", err)
			}
			var v json.RawMessage
			if err := dec.Decode(&v); err != nil {
				return nil, fmt.Errorf("a line is not JSON: %w", err)
			}
			if s, ok := k.(string); ok && !seen[s] {
				seen[s] = true
				out = append(out, s)
			}
		}
	}
}

func csvRow(line []byte, columns []string) ([]string, error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(line, &m); err != nil {
		return nil, err
	}
	cells := make([]string, len(columns))
	for i, k := range columns {
		raw := m[k]
		var s string
		switch {
		case len(raw) == 0 || string(raw) == "null":
		case json.Unmarshal(raw, &s) == nil:
			cells[i] = s
		default:
			cells[i] = string(raw)
		}
	}
	return cells, nil
}
