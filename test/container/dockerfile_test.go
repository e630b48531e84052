package container

import (
	"encoding/json"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"pgpoold/config"
)

// instruction is one line of a Dockerfile: its word and what follows.
type instruction struct{ word, rest string }

// stage is what stands between one FROM and the next.
type stage struct {
	base, name string
	lines      []instruction
}

// parseDockerfile reads the stages of a Dockerfile.
func parseDockerfile(text string) ([]stage, error) {
	var stages []stage
	text = strings.ReplaceAll(text, "\\\n", " ")
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		word, rest, _ := strings.Cut(line, " ")
		in := instruction{strings.ToUpper(word), strings.TrimSpace(rest)}
		if in.word == "FROM" {
			words := strings.Fields(in.rest)
			s := stage{base: words[0]}
			if len(words) == 3 && strings.EqualFold(words[1], "AS") {
				s.name = words[2]
			}
			stages = append(stages, s)
			continue
		}
		if len(stages) == 0 {
			return nil, fmt.Errorf("%s before FROM", in.word)
		}
		last := &stages[len(stages)-1]
		last.lines = append(last.lines, in)
	}
	return stages, nil
}

// copied is a COPY --from=build of the final stage.
type copied struct{ from, to string }

// image is what the final stage says.
type image struct {
	copies      []copied
	env         map[string]string
	user        string
	entrypoint  []string
	healthcheck []string
	exposed     []string
	stopSignal  string
}

// readImage reads the final stage, and fails on a line that this test would
// not carry out.
func readImage(s stage, build string) (*image, error) {
	im := &image{env: map[string]string{}}
	for _, in := range s.lines {
		var err error
		switch in.word {
		case "COPY":
			words := strings.Fields(in.rest)
			if len(words) != 3 || words[0] != "--from="+build {
				return nil, fmt.Errorf("COPY %s: not one thing of the stage %s", in.rest, build)
			}
			im.copies = append(im.copies, copied{words[1], words[2]})
		case "ENV":
			for _, pair := range strings.Fields(in.rest) {
				name, value, ok := strings.Cut(pair, "=")
				if !ok {
					return nil, fmt.Errorf("ENV %s: not NAME=value", pair)
				}
				im.env[name] = value
			}
		case "USER":
			im.user = in.rest
		case "ENTRYPOINT":
			err = json.Unmarshal([]byte(in.rest), &im.entrypoint)
		case "HEALTHCHECK":
			_, command, ok := strings.Cut(in.rest, "CMD ")
			if !ok {
				return nil, fmt.Errorf("HEALTHCHECK %s: no CMD", in.rest)
			}
			err = json.Unmarshal([]byte(command), &im.healthcheck)
		case "EXPOSE":
			im.exposed = strings.Fields(in.rest)
		case "STOPSIGNAL":
			im.stopSignal = in.rest
		default:
			return nil, fmt.Errorf("%s is nothing that this test carries out", in.word)
		}
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", in.word, in.rest, err)
		}
	}
	return im, nil
}

// ignored reads .dockerignore, in the two forms that ours has: a name at the
// top, and **/pattern anywhere.
func ignored(patterns []string, name string) bool {
	top, _, _ := strings.Cut(name, "/")
	for _, p := range patterns {
		if any, ok := strings.CutPrefix(p, "**/"); ok {
			if hit, _ := path.Match(any, path.Base(name)); hit {
				return true
			}
		} else if top == p {
			return true
		}
	}
	return false
}

// ourDockerfile reads the project's.
func ourDockerfile(t *testing.T) (build stage, im *image) {
	t.Helper()
	text, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	stages, err := parseDockerfile(string(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(stages) != 2 || stages[0].name == "" || stages[1].base != "scratch" {
		t.Fatalf("stages %+v: this test knows one build stage and a final one from scratch", stages)
	}
	im, err = readImage(stages[1], stages[0].name)
	if err != nil {
		t.Fatal(err)
	}
	return stages[0], im
}

func TestTheImageSaysWhatItPromises(t *testing.T) {
	_, im := ourDockerfile(t)
	if im.user != "65532:65532" {
		t.Errorf("USER %s", im.user)
	}
	if !slices.Equal(im.exposed, []string{"6432", "6433"}) {
		t.Errorf("EXPOSE %s", im.exposed)
	}
	if im.stopSignal != "SIGTERM" {
		t.Errorf("STOPSIGNAL %s", im.stopSignal)
	}
	if !slices.Equal(im.healthcheck, append(slices.Clone(im.entrypoint), "health")) {
		t.Errorf("HEALTHCHECK %q of %q", im.healthcheck, im.entrypoint)
	}
	// Published ports reach only what listens beyond loopback.
	env := map[string]string{"SUPABASE_POSTGRES_DSN": "postgres://u:p@db.internal/d"}
	for k, v := range im.env {
		env[k] = v
	}
	cfg, err := config.Load("", func(name string) (string, bool) { v, ok := env[name]; return v, ok })
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Listen.Addrs) != 1 || cfg.Listen.Addrs[0] != (config.Addr{Network: "tcp", Address: ":6432"}) || cfg.Admin.Addr != ":6433" {
		t.Errorf("listens on %v and %s", cfg.Listen.Addrs, cfg.Admin.Addr)
	}
	var folder bool
	for _, c := range im.copies {
		folder = folder || c.to == "/etc/pgpoold/"
	}
	if !folder {
		t.Error("there is no folder for a configuration")
	}
}

func TestParseDockerfile(t *testing.T) {
	stages, err := parseDockerfile("# x\nFROM a AS b\nRUN one \\\n  two\n\nFROM scratch\nENV A=1 B=2\nENTRYPOINT [\"/x\", \"y\"]\n")
	if err != nil || len(stages) != 2 || stages[0].lines[0].rest != "one    two" {
		t.Fatalf("%+v %v", stages, err)
	}
	im, err := readImage(stages[1], "b")
	if err != nil || im.env["B"] != "2" || !slices.Equal(im.entrypoint, []string{"/x", "y"}) {
		t.Fatalf("%+v %v", im, err)
	}
	if _, err := readImage(stage{lines: []instruction{{"VOLUME", "/x"}}}, "b"); err == nil {
		t.Fatal("a line that is not carried out was passed over")
	}
}
