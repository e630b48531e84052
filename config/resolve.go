package config

import "reflect"

// Effective returns the settings that hold for a user's sessions in a
// database: the user's own where it has them, else the database's, else
// pool's. A user of "" is one without settings of its own; a database that is
// not configured by name is "*".
func (c *Config) Effective(database, user string) Pool {
	p := c.Pool
	if d := c.Database(database); d != nil {
		if d.connectTimeout != nil {
			p.ServerConnectTimeout = *d.connectTimeout
		}
		d.Overrides.applyTo(&p)
	}
	if u := c.Users[user]; u != nil {
		u.Overrides.applyTo(&p)
	}
	// A smaller size from a nearer place bounds a min_size from a farther one.
	if p.Size > 0 {
		p.MinSize = min(p.MinSize, p.Size)
	}
	return p
}

// Database returns the entry that answers for a name that a client asked for,
// or nil.
func (c *Config) Database(name string) *Database {
	if d, ok := c.Databases[name]; ok {
		return d
	}
	return c.Databases["*"]
}

// Has reports whether a setting, by its canonical name, is set here, and so
// nearer than pool's.
func (o *Overrides) Has(name string) bool { return o.set[name] }

// Values are the settings for which Has is true; the others are zero.
func (o *Overrides) Values() Pool { return o.values }

func (o *Overrides) applyTo(p *Pool) {
	if len(o.set) == 0 {
		return
	}
	for _, s := range poolSettings() {
		if o.set[s.Name] {
			reflect.ValueOf(s.pool(p)).Elem().Set(reflect.ValueOf(s.pool(&o.values)).Elem())
		}
	}
}
