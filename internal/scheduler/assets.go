package scheduler

import (
	"time"
)

// AssetCondition is the expression a DAG is scheduled on.
type AssetCondition struct {
	Kind AssetConditionKind
	// Name and URI identify an asset, an alias (Name) or a reference (either).
	Name, URI string
	Objects   []AssetCondition // of all and any
}

// AssetConditionKind is the kind of a node of an AssetCondition.
type AssetConditionKind string

// The kinds of AssetCondition, by Airflow's serialized names.
const (
	AssetOne   AssetConditionKind = "asset"
	AssetAlias AssetConditionKind = "asset_alias"
	AssetAll   AssetConditionKind = "asset_all"
	AssetAny   AssetConditionKind = "asset_any"
	AssetRef   AssetConditionKind = "asset_ref"
)

// QueuedAsset is an asset that was updated since the DAG's last asset-triggered run.
type QueuedAsset struct {
	Name, URI string
	// Aliases are the names of the aliases through which events reached it.
	Aliases   []string
	CreatedAt time.Time // of the queue row: the first event that waits
}

// PendingAssetEvent is an asset event that a run may consume.
type PendingAssetEvent struct {
	ID        string
	Name, URI string
	Aliases   []string
	Timestamp time.Time
}

// AssetRunPlan is the asset-triggered run to create.
type AssetRunPlan struct {
	Create   bool
	RunAfter time.Time
	// Consumed are ids of the events the run consumes, oldest first.
	Consumed []string
	// Waiting are the assets without an event, in order of the condition.
	Waiting []AssetCondition
}
