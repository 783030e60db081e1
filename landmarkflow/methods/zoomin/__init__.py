"""The method `zoomin`: a look at a whole picture, then closer ones around what that found."""
