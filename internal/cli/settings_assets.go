package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/dagprocessor"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/localapp"
	"github.com/gustflow/gust/internal/store"
)

func (c *command) assets() *cobra.Command {
	return group("assets", "Manage assets", c.assetsList(), c.assetsDetails(), c.assetsMaterialize())
}

func assetRow(r store.AssetRecord) row {
	extra := r.Extra
	if len(extra) == 0 {
		extra = json.RawMessage("{}")
	}
	return row{{"name", r.Name}, {"uri", r.URI}, {"group", r.Group}, {"extra", extra}}
}

func assetDetails(r store.AssetRecord) row {
	scheduled, producers := r.ScheduledDags, r.Producers
	if scheduled == nil {
		scheduled = []airflow.DagID{}
	}
	if producers == nil {
		producers = []store.AssetProducer{}
	}
	return append(assetRow(r), pair{"active", r.Active()}, pair{"inactive_reason", r.Inactive}, pair{"scheduled_dags", scheduled}, pair{"producing_tasks", producers})
}

// assetRecords lists assets, or with aliases the asset aliases.
func assetRecords(ctx context.Context, a *localapp.App, aliases bool) ([]store.AssetRecord, error) {
	all, err := a.Store.ListAssets(ctx)
	if err != nil {
		return nil, err
	}
	var out []store.AssetRecord
	for _, r := range all {
		k := store.AssetKey{Name: r.Name, URI: r.URI}
		if !aliases && dagprocessor.IsAsset(k) || aliases && r.URI == dagprocessor.AliasURI {
			out = append(out, r)
		}
	}
	return out, nil
}

func (c *command) assetsList() *cobra.Command {
	var alias bool
	var cols []string
	cmd := leaf("list", "List assets", "  gust assets list\n  gust assets list --alias -o json", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		known := []string{"name", "uri", "group", "extra"}
		if alias {
			known = []string{"name", "group"}
		}
		if err := columns(cols, known); err != nil {
			return err
		}
		if len(cols) == 0 {
			cols = known
		}
		a, err := c.open(ctx)
		if err != nil {
			return err
		}
		recs, err := assetRecords(ctx, a, alias)
		if err != nil {
			return err
		}
		var rs []row
		for _, r := range recs {
			rs = append(rs, assetRow(r).only(cols))
		}
		return c.rows(rs, cols...)
	})
	cmd.Flags().BoolVar(&alias, "alias", false, "list asset aliases instead")
	cmd.Flags().StringSliceVar(&cols, "columns", nil, "columns to show, divided by commas")
	return cmd
}

// findAsset finds the one asset of a name or uri.
func findAsset(ctx context.Context, a *localapp.App, name, uri string, alias bool) (store.AssetRecord, error) {
	var none store.AssetRecord
	if name == "" && uri == "" {
		return none, usagef("--name or --uri is needed")
	}
	recs, err := assetRecords(ctx, a, alias)
	if err != nil {
		return none, err
	}
	var found []store.AssetRecord
	for _, r := range recs {
		if (name == "" || r.Name == name) && (uri == "" || r.URI == uri) {
			found = append(found, r)
		}
	}
	switch len(found) {
	case 0:
		return none, fmt.Errorf("there is no asset with name %q and uri %q: gust assets list shows what there is", name, uri)
	case 1:
		return found[0], nil
	}
	return none, fmt.Errorf("there are %d such assets: give both --name and --uri", len(found))
}

func (c *command) assetsDetails() *cobra.Command {
	var name, uri string
	var alias bool
	cmd := leaf("details", "Show an asset: who produces it and who waits for it", "  gust assets details --name orders\n  gust assets details --uri s3://bucket/orders -o json", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		if alias && uri != "" {
			return usagef("--uri cannot be given together with --alias: an alias has none")
		}
		a, err := c.open(ctx)
		if err != nil {
			return err
		}
		r, err := findAsset(ctx, a, name, uri, alias)
		if err != nil {
			return err
		}
		return c.details(assetDetails(r))
	})
	cmd.Flags().StringVar(&name, "name", "", "the asset's name")
	cmd.Flags().StringVar(&uri, "uri", "", "the asset's uri")
	cmd.Flags().BoolVar(&alias, "alias", false, "show an asset alias")
	return cmd
}

func (c *command) assetsMaterialize() *cobra.Command {
	var name, uri string
	cmd := leaf("materialize", "Run the DAG that produces an asset", "  gust assets materialize --name orders", cobra.NoArgs, func(ctx context.Context, _ []string) error {
		a, err := c.open(ctx)
		if err != nil {
			return err
		}
		r, err := findAsset(ctx, a, name, uri, false)
		if err != nil {
			return err
		}
		dags := map[airflow.DagID]bool{}
		var ids []string
		for _, p := range r.Producers {
			if !dags[p.DagID] {
				dags[p.DagID] = true
				ids = append(ids, string(p.DagID))
			}
		}
		switch len(ids) {
		case 0:
			return fmt.Errorf("no DAG produces asset %q", r.Name)
		case 1:
		default:
			return fmt.Errorf("asset %q is produced by more than one DAG (%s): trigger the one you mean with gust dags trigger", r.Name, strings.Join(ids, ", "))
		}
		run, err := a.Engine.Trigger(ctx, engine.TriggerOptions{DagID: airflow.DagID(ids[0]), NoLogicalDate: true, TriggeredBy: airflow.TriggeredByCLI, Type: airflow.RunTypeAssetMaterialization, User: c.env.User})
		if err != nil {
			return err
		}
		if err := c.tell(ctx, a, localapp.Notice{Discover: true, Runs: []store.RunKey{{DagID: run.DagID, RunID: run.RunID}}}, "the run starts"); err != nil {
			return err
		}
		return c.rows([]row{{
			{"conf", run.Conf}, {"dag_id", run.DagID}, {"dag_run_id", run.RunID}, {"data_interval_start", run.DataIntervalStart}, {"data_interval_end", run.DataIntervalEnd},
			{"end_date", run.EndDate}, {"logical_date", run.LogicalDate}, {"run_after", run.RunAfter}, {"run_type", run.RunType}, {"start_date", run.StartDate},
			{"state", run.State}, {"triggering_user_name", run.TriggeringUserName},
		}}, "dag_id", "dag_run_id", "run_type", "run_after", "state")
	})
	cmd.Flags().StringVar(&name, "name", "", "the asset's name")
	cmd.Flags().StringVar(&uri, "uri", "", "the asset's uri")
	return cmd
}
