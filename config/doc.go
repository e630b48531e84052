// Package config reads pgpoold's configuration: the YAML file, the environment
// and the defaults become one checked Config, or a list of every mistake.
//
// One table of settings (table.go) drives the file, the environment, SHOW
// CONFIG, the sample config.yaml and docs/settings.md; the last two are
// generated from it.
//
// Files, in reading order: config.go (what a configuration says), setting.go
// and table.go (the settings), value.go and address.go (how values are
// written), load.go, decode.go and expand.go (from file and environment to
// Config), databases.go, auth.go, userlist.go and validate.go (what must fit
// together), resolve.go (the nearest setting wins), rows.go (SHOW CONFIG and
// check --print), generate.go (the sample and the reference page). DSNs have
// a package of their own, config/dsn.
//
// Nothing here logs, and no error or printed value holds a secret.
package config

//go:generate go test . -run ^TestGenerated$ -update
