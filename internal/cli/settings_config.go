package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gustflow/gust/internal/config"
)

func (c *command) configCommand() *cobra.Command {
	return group("config", "View the configuration", c.configList(), c.configGetValue(), c.configLint())
}

func (c *command) configList() *cobra.Command {
	var section string
	var descriptions, sources, envVars, defaults, commented bool
	cmd := leaf("list", "List all settings with their values, secrets as ***", "  gust config list --section core\n  gust config list --include-descriptions --include-sources\n  gust config list --defaults > gust.cfg.sample", cobra.NoArgs, func(context.Context, []string) error {
		cfg, err := c.config()
		if err != nil {
			return err
		}
		var opts []config.Option
		known := map[string]bool{}
		for _, o := range cfg.Options() {
			known[o.Section] = true
			if section == "" || o.Section == strings.ToLower(section) {
				opts = append(opts, o)
			}
		}
		if section != "" && len(opts) == 0 {
			return fmt.Errorf("section %q is not in the configuration", section)
		}
		if c.output != "table" {
			var rs []row
			for _, o := range opts {
				v := o.Value
				if defaults {
					v = o.Default
				}
				rs = append(rs, row{{"section", o.Section}, {"key", o.Key}, {"value", v}, {"default", o.Default}, {"source", o.Source}, {"env_var", o.Env}, {"description", o.Description}, {"no_effect", o.NoEffect}})
			}
			return c.rows(rs, "section", "key", "value", "source")
		}
		last := ""
		for _, o := range opts {
			if o.Section != last {
				if last != "" {
					fmt.Fprintln(c.env.Stdout)
				}
				fmt.Fprintf(c.env.Stdout, "[%s]\n", o.Section)
				last = o.Section
			}
			if descriptions {
				fmt.Fprintf(c.env.Stdout, "# %s\n", o.Description)
			}
			if o.NoEffect != "" {
				fmt.Fprintf(c.env.Stdout, "# No effect: %s\n", o.NoEffect)
			}
			if sources {
				fmt.Fprintf(c.env.Stdout, "# Source: %s\n", o.Source)
			}
			if envVars {
				fmt.Fprintf(c.env.Stdout, "# Variable: %s\n", o.Env)
			}
			v, prefix := o.Value, ""
			if defaults {
				v = o.Default
			}
			if commented {
				prefix = "# "
			}
			fmt.Fprintf(c.env.Stdout, "%s%s = %s\n", prefix, o.Key, strings.ReplaceAll(v, "\n", "\n    "))
		}
		return nil
	})
	fl := cmd.Flags()
	fl.StringVar(&section, "section", "", "only this section")
	fl.BoolVarP(&descriptions, "include-descriptions", "d", false, "with what each setting means")
	fl.BoolVarP(&sources, "include-sources", "s", false, "with where each value comes from")
	fl.BoolVarP(&envVars, "include-env-vars", "V", false, "with the environment variable of each setting")
	fl.BoolVarP(&defaults, "defaults", "a", false, "the defaults instead of the values")
	fl.BoolVarP(&commented, "comment-out-everything", "c", false, "every line commented out")
	return cmd
}

func (c *command) configGetValue() *cobra.Command {
	return leaf("get-value SECTION OPTION", "Print a setting, *** for a secret", "  gust config get-value core dags_folder", cobra.ExactArgs(2), func(_ context.Context, args []string) error {
		cfg, err := c.config()
		if err != nil {
			return err
		}
		v, ok := cfg.Get(args[0], args[1])
		if !ok {
			return fmt.Errorf("the option [%s/%s] is not found in config: gust config list shows what there is", args[0], args[1])
		}
		if c.output == "json" || c.output == "yaml" {
			return c.details(row{{"section", args[0]}, {"key", args[1]}, {"value", v}})
		}
		_, err = fmt.Fprintln(c.env.Stdout, v)
		return err
	})
}

func (c *command) configLint() *cobra.Command {
	return leaf("lint", "Check the configuration and list settings that have no effect here", "  gust config lint", cobra.NoArgs, func(context.Context, []string) error {
		cfg, err := c.config() // its error lists every problem
		if err != nil {
			return err
		}
		var rs []row
		for _, i := range cfg.Ignored() {
			rs = append(rs, row{{"section", i.Section}, {"key", i.Key}, {"source", i.Source}, {"reason", i.Reason}})
		}
		if len(rs) == 0 && c.output == "table" {
			c.say("The configuration is valid; every setting is used.")
			return nil
		}
		c.hint("the configuration is valid; these settings have no effect in Gust (docs/compatibility.md):")
		return c.rows(rs, "section", "key", "source", "reason")
	})
}

func (c *command) secrets() *cobra.Command {
	return group("secrets", "Manage the key that encrypts variables and connections", c.secretsRotate())
}

func (c *command) secretsRotate() *cobra.Command {
	var keep bool
	cmd := leaf("rotate", "Make a new key, encrypt everything with it and remove the old key", "  gust secrets rotate\n  gust secrets rotate --keep-old-keys     backups made before can then still be read", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		a, err := c.open(ctx)
		if err != nil {
			return err
		}
		if err := a.Keys.Rotate(); err != nil {
			return err
		}
		n, err := a.Store.ResealSecrets(ctx)
		if err != nil {
			return fmt.Errorf("%d secrets were encrypted with the new key, then: %w; the old key is kept: run the command again", n, err)
		}
		if !keep {
			// A task of a running server may have written with the old key meanwhile.
			if _, err := a.Store.ResealSecrets(ctx); err != nil {
				return fmt.Errorf("%w; the old key is kept: run the command again", err)
			}
			if err := a.Keys.Retire(); err != nil {
				return err
			}
		}
		c.audit(ctx, a, "cli_secrets_rotate", nil)
		if c.output == "json" || c.output == "yaml" {
			return c.details(row{{"secrets", n}, {"keys", a.Keys.Count()}})
		}
		c.say("%d variables and connections are encrypted with a new key", n)
		return nil
	})
	cmd.Flags().BoolVar(&keep, "keep-old-keys", false, "keep the old keys, to read backups made before")
	return cmd
}
