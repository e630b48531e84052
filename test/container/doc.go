// Package container tests the image without a container engine: it carries
// out the Dockerfile's build stage, lays out what the final stage copies, and
// runs the ENTRYPOINT in a chroot, as the image's user and with the image's
// environment. What it does is read from the Dockerfile, so it tests the file
// that an engine builds from.
package container
