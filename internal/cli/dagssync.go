package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gustflow/gust/internal/dagprocessor"
	"github.com/gustflow/gust/internal/dagsync"
)

// synced is what dags sync prints with -o json.
type synced struct {
	*dagsync.Plan
	DryRun   bool                      `json:"dry_run"`
	Problems []dagprocessor.FileReport `json:"problems,omitempty"` // files with problems
	Uploaded int                       `json:"uploaded"`
	Deleted  int                       `json:"deleted"`
	Kept     int                       `json:"unchanged"`
	Bytes    int64                     `json:"bytes"` // uploaded
	Error    string                    `json:"error,omitempty"`
}

func (c *command) dagsSync() *cobra.Command {
	var dryRun, force bool
	var o dagsync.Options
	cmd := &cobra.Command{
		Use: "sync DIR s3://BUCKET/PREFIX", Short: "Bring a folder of DAG files into the bucket of a deployment", Args: cobra.ExactArgs(2),
		Long: `Checks the DAG files as dags validate does, compares the folder with the bucket,
and uploads what is new or has changed: helpers first, DAG files after them. What
the folder does not hold stays in the bucket unless --delete is given. With
problems in a DAG file nothing is written; --force writes all the same.

Region and credentials are those of the AWS command line (AWS_PROFILE, AWS_REGION,
AWS_ENDPOINT_URL for LocalStack).`,
		Example: `  gust dags sync dags/ s3://gust-dev-dags/dags --dry-run
  gust dags sync dags/ s3://gust-dev-dags/dags --delete
  gust dags sync . s3://gust-dev-dags/dags --exclude 'tests/' --exclude '*.md' -o json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			dir := args[0]
			bucket, prefix, err := dagsync.ParseURL(args[1])
			if err != nil {
				return usagef("%v", err)
			}
			if st, err := os.Stat(dir); err != nil {
				return err
			} else if !st.IsDir() {
				return usagef("%s is a file: expected the folder of the DAG files", dir)
			}
			if c.env.Bucket == nil {
				return fmt.Errorf("this %s was built without AWS: use one that was built with it (go build -tags aws ./cmd/gust)", c.env.Name)
			}
			cfg, err := c.config()
			if err != nil {
				return err
			}
			o.Scan = scanOptions(cfg)
			reports, err := dagprocessor.Validate(ctx, dagprocessor.ValidateConfig{Loader: c.loader(cfg, dir), Scan: o.Scan, LoadTimeout: cfg.Core.DagbagImportTimeout}, []string{dir})
			if err != nil {
				return err
			}
			out := synced{DryRun: dryRun}
			dags := 0
			for _, r := range reports {
				dags += len(r.Dags)
				if !r.OK() {
					out.Problems = append(out.Problems, r)
				}
			}
			for _, r := range out.Problems {
				for _, p := range r.Problems {
					c.hint("%s %s", c.paintErr("error"), p)
				}
			}
			if len(out.Problems) > 0 && !force {
				return fmt.Errorf("%d of %d DAG files have problems: nothing was written; mend them, or use --force to write all the same (their DAGs keep their last good version)", len(out.Problems), len(reports))
			}
			target, err := c.env.Bucket(ctx, bucket)
			if err != nil {
				return err
			}
			if out.Plan, err = dagsync.New(ctx, dir, target, prefix, o); err != nil {
				return err
			}
			if n, _ := out.Count(dagsync.Delete); n > 0 && len(reports) == 0 && !force {
				return fmt.Errorf("%s holds no DAG file, and --delete would remove %d files from %s: if that is meant, use --force", dir, n, out.Target)
			}
			c.sayPlan(out.Plan)
			if !dryRun {
				err = out.Apply(ctx, c.syncProgress(out.Plan))
			}
			for _, s := range out.Steps {
				switch {
				case s.Action == dagsync.Keep:
					out.Kept++
				case s.Done && s.Action == dagsync.Delete:
					out.Deleted++
				case s.Done:
					out.Uploaded++
					out.Bytes += s.Bytes
				}
			}
			if err != nil {
				out.Error = err.Error()
			}
			switch c.output {
			case "json":
				err = errors.Join(err, writeJSON(c.env.Stdout, out))
			case "yaml":
				err = errors.Join(err, writeYAML(c.env.Stdout, out))
			}
			if err != nil {
				return err
			}
			if dryRun {
				c.say("%d DAGs in %d files; nothing was written (--dry-run)", dags, len(reports))
				return nil
			}
			c.say("%s: %d DAGs in %d files; %d files uploaded (%s), %d deleted, %d unchanged", out.Target, dags, len(reports), out.Uploaded, byteSize(out.Bytes), out.Deleted, out.Kept)
			return nil
		},
	}
	cmd.Flags().BoolVar(&o.Delete, "delete", false, "remove from the bucket what DIR does not hold")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be done")
	cmd.Flags().BoolVar(&force, "force", false, "write although DAG files have problems, or although DIR holds none")
	cmd.Flags().StringArrayVar(&o.Exclude, "exclude", nil, "pattern of names or paths to leave alone on both sides (repeatable)")
	return cmd
}

// sayPlan lists what is to be done.
func (c *command) sayPlan(p *dagsync.Plan) {
	for _, s := range p.Steps {
		switch s.Action {
		case dagsync.Add:
			c.say("%s %s (new, %s)", c.paint("+", "\x1b[32m"), s.Path, byteSize(s.Bytes))
		case dagsync.Replace:
			c.say("%s %s (changed, %s)", c.paint("~", "\x1b[33m"), s.Path, byteSize(s.Bytes))
		case dagsync.Delete:
			c.say("%s %s (deleted)", c.paint("-", "\x1b[31m"), s.Path)
		case dagsync.Extra:
			c.say("! %s (only in the bucket; --delete removes it)", s.Path)
		}
	}
	if !p.Changes() {
		c.say("%s is up to date", p.Target)
	}
}

// syncProgress shows on a terminal how far a sync is.
func (c *command) syncProgress(p *dagsync.Plan) func(dagsync.Step) {
	total, _ := p.Count(dagsync.Add, dagsync.Replace, dagsync.Delete)
	if !c.env.Terminal || total < 10 || c.output == "json" || c.output == "yaml" {
		return nil
	}
	done := 0
	return func(dagsync.Step) { // one at a time: Apply sees to that
		done++
		end := ""
		if done == total {
			end = "\n"
		}
		fmt.Fprintf(c.env.Stderr, "\r%d of %d%s", done, total, end)
	}
}

// byteSize renders a size for people.
func byteSize(n int64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n)/(1<<10), 0
	for ; v >= 1000 && unit < 3; unit++ {
		v /= 1 << 10
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0") + " " + [...]string{"KB", "MB", "GB", "TB"}[unit]
}
