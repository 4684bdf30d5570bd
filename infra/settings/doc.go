// Package settings is the typed configuration of a deployment: what a stage and a
// cost profile mean, what a file may change, and whether the result makes sense.
// It knows no CDK, so that its tests run in milliseconds.
//
// A value comes from, later ones winning: the profile, the stage, the file named
// by the CDK context key "config" (JSON, unknown fields are errors), and the
// context keys themselves (cdk -c profile=prod -c alarm_email=…).
package settings
