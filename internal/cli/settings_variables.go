package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"sort"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/localapp"
)

func (c *command) variables() *cobra.Command {
	return group("variables", "Manage variables", c.variablesList(), c.variablesGet(), c.variablesSet(), c.variablesDelete(), c.variablesImport(), c.variablesExport())
}

func (c *command) variablesList() *cobra.Command {
	var show, hide bool
	cmd := leaf("list", "List variables", "  gust variables list -o json\n  gust variables list --show-values --hide-sensitive", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		a, err := c.open(ctx)
		if err != nil {
			return err
		}
		vs, err := a.Store.ListVariables(ctx)
		if err != nil {
			return err
		}
		var rs []row
		for _, v := range vs {
			r := row{{"key", v.Key}, {"description", v.Description}}
			if show {
				value := v.Value
				if hide {
					value = c.masker.Value(v.Key, v.Value)
				}
				r = append(r, pair{"value", value})
			}
			rs = append(rs, r)
		}
		if show {
			return c.rows(rs, "key", "value", "description")
		}
		return c.rows(rs, "key", "description")
	})
	cmd.Flags().BoolVar(&show, "show-values", false, "show the values too")
	cmd.Flags().BoolVar(&hide, "hide-sensitive", false, "with --show-values: *** for values whose key says that they are secret")
	return cmd
}

func (c *command) variablesGet() *cobra.Command {
	var def string
	var isJSON bool
	cmd := &cobra.Command{Use: "get KEY", Short: "Print a variable", Args: cobra.ExactArgs(1),
		Long:    "Print the value of a variable: the one of the secrets backend, of AIRFLOW_VAR_<KEY> in the environment, or the stored one, as a task would see it.",
		Example: "  gust variables get region\n  gust variables get settings --json\n  gust variables get region --default eu-central-1"}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		a, err := c.open(ctx)
		if err != nil {
			return err
		}
		v, ok, err := a.Options.Secrets.Variable(ctx, args[0])
		if err == nil && !ok {
			v, err = a.Store.GetVariable(ctx, args[0])
		}
		if errors.Is(err, airflow.ErrNotFound) {
			if !cmd.Flags().Changed("default") {
				return fmt.Errorf("variable %s does not exist", args[0])
			}
			v, err = airflow.Variable{Key: args[0], Value: def}, nil
			isJSON = false // as given, as Airflow prints it
		}
		if err != nil {
			return err
		}
		value := v.Value
		if isJSON {
			var b bytes.Buffer
			if err := json.Indent(&b, []byte(v.Value), "", "  "); err != nil {
				return fmt.Errorf("variable %s is not JSON: %w", args[0], err)
			}
			value = b.String()
		}
		if c.output == "json" || c.output == "yaml" {
			return c.details(row{{"key", v.Key}, {"value", v.Value}, {"description", v.Description}})
		}
		_, err = fmt.Fprintln(c.env.Stdout, value)
		return err
	}
	cmd.Flags().StringVarP(&def, "default", "d", "", "what to print if there is no such variable")
	cmd.Flags().BoolVarP(&isJSON, "json", "j", false, "the value is JSON: print it indented, or fail")
	return cmd
}

func (c *command) variablesSet() *cobra.Command {
	var isJSON bool
	var description string
	cmd := leaf("set KEY VALUE", "Set a variable", "  gust variables set region eu-central-1\n  gust variables set settings '{\"a\": 1}' --json --description 'what jobs read'", cobra.ExactArgs(2), func(ctx context.Context, args []string) error {
		v := airflow.Variable{Key: args[0], Value: args[1], Description: description}
		if err := checkVariableKey(v.Key); err != nil {
			return err
		}
		if isJSON {
			b, err := json.Marshal(v.Value)
			if err != nil {
				return err
			}
			// Airflow's --json serialises the given text, so that --json of get reads it back.
			if json.Valid([]byte(v.Value)) {
				b = []byte(v.Value)
			}
			v.Value = string(b)
		}
		a, err := c.open(ctx)
		if err != nil {
			return err
		}
		if err := a.Store.PutVariable(ctx, v); err != nil {
			return err
		}
		c.audit(ctx, a, "cli_variables_set", map[string]string{"key": v.Key})
		c.say("Variable %s created", v.Key)
		c.shadowed("AIRFLOW_VAR_", v.Key)
		return nil
	})
	cmd.Flags().BoolVarP(&isJSON, "json", "j", false, "store the value as JSON")
	cmd.Flags().StringVar(&description, "description", "", "what the variable is for")
	return cmd
}

func checkVariableKey(key string) error {
	if key == "" || len(key) > 250 {
		return usagef("variable key %q: expected 1 to 250 characters", key)
	}
	return nil
}

// shadowed warns that the environment has a value that comes first.
func (c *command) shadowed(prefix, name string) {
	env := prefix + strings.ToUpper(name)
	if _, ok := c.environmentSecrets().Lookup(env); ok {
		c.hint("%s is set in the environment and comes before the stored value", env)
	}
}

func (c *command) variablesDelete() *cobra.Command {
	return leaf("delete KEY", "Delete a variable", "  gust variables delete region", cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
		a, err := c.open(ctx)
		if err != nil {
			return err
		}
		if err := a.Store.DeleteVariable(ctx, args[0]); err != nil {
			return missing(err, "variable %s does not exist", args[0])
		}
		c.audit(ctx, a, "cli_variables_delete", map[string]string{"key": args[0]})
		c.say("Variable %s deleted", args[0])
		return nil
	})
}

func (c *command) variablesImport() *cobra.Command {
	var action string
	cmd := leaf("import FILE", "Import variables from a JSON, YAML or env file",
		"  gust variables import variables.json\n  gust variables import variables.yaml --action-on-existing-key skip", cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
			if err := oneOf("--action-on-existing-key", action, "overwrite", "fail", "skip"); err != nil {
				return err
			}
			b, err := c.importFile(args[0])
			if err != nil {
				return err
			}
			vs, err := parseVariables(args[0], b)
			if err != nil {
				return err
			}
			a, err := c.open(ctx)
			if err != nil {
				return err
			}
			existing := map[string]bool{}
			all, err := a.Store.ListVariables(ctx)
			if err != nil {
				return err
			}
			for _, v := range all {
				existing[v.Key] = true
			}
			var clash []string
			for _, v := range vs {
				if existing[v.Key] {
					clash = append(clash, v.Key)
				}
			}
			if action == "fail" && len(clash) > 0 {
				return fmt.Errorf("nothing was imported: these variables exist already: %s", strings.Join(clash, ", "))
			}
			n, err := c.putVariables(ctx, a, vs, func(v airflow.Variable) bool { return action == "skip" && existing[v.Key] })
			if err != nil {
				return fmt.Errorf("%d of %d variables imported, then: %w", n, len(vs), err)
			}
			c.audit(ctx, a, "cli_variables_import", map[string]string{"file": filepath.Base(args[0])})
			if action == "skip" && len(clash) > 0 {
				c.say("skipped because they exist: %s", strings.Join(clash, ", "))
			}
			c.say("%d of %d variables successfully updated.", n, len(vs))
			return nil
		})
	cmd.Flags().StringVarP(&action, "action-on-existing-key", "a", "overwrite", "what to do with variables that exist: overwrite, fail or skip")
	return cmd
}

func (c *command) putVariables(ctx context.Context, a *localapp.App, vs []airflow.Variable, skip func(airflow.Variable) bool) (int, error) {
	n := 0
	for _, v := range vs {
		if skip(v) {
			continue
		}
		if err := a.Store.PutVariable(ctx, v); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// parseVariables reads a file of variables: an object from key to a text, to any
// JSON (stored as JSON text), or to {"value": …, "description": …}; or lines
// KEY=VALUE of an env file. They are sorted by key; errors quote no value.
func parseVariables(name string, b []byte) ([]airflow.Variable, error) {
	values := map[string]any{}
	switch ext := strings.ToLower(filepath.Ext(name)); ext {
	case ".yaml", ".yml":
		if err := yaml.Unmarshal(b, &values); err != nil {
			return nil, fmt.Errorf("%s is not a YAML mapping from key to value: %w", name, err)
		}
	case ".env":
		for i, line := range strings.Split(string(b), "\n") {
			line = strings.TrimSpace(line)
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			k, v, ok := strings.Cut(line, "=")
			if !ok {
				return nil, fmt.Errorf("%s:%d: expected KEY=VALUE", name, i+1)
			}
			values[strings.TrimSpace(k)] = strings.TrimSpace(v)
		}
	case ".json", "", ".txt":
		var raw map[string]json.RawMessage
		if err := json.Unmarshal(b, &raw); err != nil {
			return nil, fmt.Errorf("%s is not a JSON object from key to value: %w", name, err)
		}
		for k, v := range raw {
			values[k] = v
		}
	default:
		return nil, usagef("%s: expected a name that ends in .json, .yaml, .yml or .env", name)
	}
	var vs []airflow.Variable
	for k, v := range values {
		if err := checkVariableKey(k); err != nil {
			return nil, err
		}
		one := airflow.Variable{Key: k}
		var err error
		if one.Value, one.Description, err = variableOf(v); err != nil {
			return nil, fmt.Errorf("%s: variable %s: %w", name, k, err)
		}
		vs = append(vs, one)
	}
	sort.Slice(vs, func(i, j int) bool { return vs[i].Key < vs[j].Key })
	return vs, nil
}

// variableOf returns what a value of an import file is stored as.
func variableOf(v any) (value, description string, err error) {
	raw, ok := v.(json.RawMessage)
	if !ok {
		if raw, err = json.Marshal(v); err != nil {
			return "", "", errors.New("its value cannot be stored: expected text, or what JSON can hold")
		}
	}
	var full struct {
		Value       json.RawMessage `json:"value"`
		Description *string         `json:"description"`
	}
	if trimmed := bytes.TrimSpace(raw); len(trimmed) > 0 && trimmed[0] == '{' && json.Unmarshal(raw, &full) == nil && truthy(full.Value) {
		raw = full.Value
		if full.Description != nil {
			description = *full.Description
		}
	}
	if json.Unmarshal(raw, &value) == nil && !bytes.Equal(bytes.TrimSpace(raw), []byte("null")) {
		return value, description, nil
	}
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		return "", "", err
	}
	return b.String(), description, nil
}

// truthy is Python's truth of a JSON value: Airflow takes an object for
// {"value": …} only if the value is true.
func truthy(raw json.RawMessage) bool {
	switch s := strings.TrimSpace(string(raw)); s {
	case "", "null", "false", "0", "0.0", `""`, "[]", "{}":
		return false
	}
	return true
}

func (c *command) variablesExport() *cobra.Command {
	return leaf("export FILE", "Export all variables as JSON, values included",
		"  gust variables export variables.json\n  gust variables export -            to standard output", cobra.ExactArgs(1), func(ctx context.Context, args []string) error {
			a, err := c.open(ctx)
			if err != nil {
				return err
			}
			vs, err := a.Store.ListVariables(ctx)
			if err != nil {
				return err
			}
			out := map[string]any{}
			for _, v := range vs {
				var value any = v.Value
				if json.Valid([]byte(v.Value)) {
					value = json.RawMessage(v.Value)
				}
				if v.Description != "" {
					value = map[string]any{"value": value, "description": v.Description}
				}
				out[v.Key] = value
			}
			return c.exportObject(args[0], out, "%d variables successfully exported to %s", len(vs), args[0])
		})
}
