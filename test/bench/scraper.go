package main

import (
	"fmt"
	"io"
	"net/http"
	"time"
)

// scraper reads pgpoold's metrics once a second, as a monitoring system does,
// so that what it costs is in what is measured. Its goroutine owns err until
// stopped is closed.
type scraper struct {
	url     string
	quit    chan struct{}
	stopped chan struct{}
	err     error
}

func newScraper(admin string) *scraper {
	return &scraper{url: "http://" + admin + "/metrics", quit: make(chan struct{}), stopped: make(chan struct{})}
}

func (s *scraper) start() { go s.run() }

func (s *scraper) run() {
	defer close(s.stopped)
	client := &http.Client{Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-s.quit:
			return
		case <-tick.C:
		}
		if s.err = s.scrape(client); s.err != nil {
			return
		}
	}
}

func (s *scraper) scrape(client *http.Client) error {
	resp, err := client.Get(s.url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", s.url, resp.Status)
	}
	return nil
}

// stop ends the reading and waits for it.
func (s *scraper) stop() error {
	close(s.quit)
	<-s.stopped
	return s.err
}
